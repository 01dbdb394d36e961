"""The conversation: frames, processors, pipelines, turn-taking, and the services that listen, think and speak."""
