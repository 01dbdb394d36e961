"""The brain: the user's code that leads a conversation."""

from sipagent.brain.base import Brain, Reply
from sipagent.brain.contract import AgentBrain, Caller, Decline, EarlyMedia, End, Stay, Tool, Transition
from sipagent.brain.controls import CallControls
from sipagent.brain.tools import tool

__all__ = [
    "AgentBrain",
    "Brain",
    "CallControls",
    "Caller",
    "Decline",
    "EarlyMedia",
    "End",
    "Reply",
    "Stay",
    "Tool",
    "Transition",
    "tool",
]
