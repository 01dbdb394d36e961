"""What the worker asks of a conversation, whatever pipeline leads it."""

from typing import Protocol

from sipagent.service.messages import ToWorker


class Led(Protocol):
    """One call in this worker."""

    async def lead(self) -> None:
        """From Accept or Reject to the end of the call; whatever it raises ends this call alone."""

    async def give_up(self) -> None:
        """After an error: refuse the call, or say sorry, if that is still possible, and hang up."""

    def receive(self, message: ToWorker) -> None:
        """A message about this call; never waits."""

    def finish(self) -> None:
        """Send Finished; called once, at the very end."""
