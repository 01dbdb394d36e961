"""The brain: the user's code that leads a conversation."""
