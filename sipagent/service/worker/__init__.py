"""A conversation worker: the process that runs pipelines and brains."""
