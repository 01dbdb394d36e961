"""What to do when nobody says anything: ask, ask again, end the call. Without clock or sound."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SilenceOptions:
    """Off while `silence_seconds` is 0."""

    silence_seconds: float = 0.0  # of both sides, before the caller is asked
    silence_prompts: tuple[str, ...] = ("Are you still there?", "Hello? I can't hear you.")
    silence_goodbye: str = "I can't hear you, so I will hang up now. Goodbye."


class SilenceWatch:
    """Tell it at every tick whether it is silent; it says what to say."""

    def __init__(self, options: SilenceOptions) -> None:
        self._options = options
        self._since: float | None = None
        self._asked = 0
        self.over = False

    def answered(self) -> None:
        """The caller said something with words in it: begin to count again."""
        self._asked = 0

    def tick(self, silent: bool, now: float) -> str:
        """A prompt that is due now, or ""; after the last one the goodbye, and `over` is set."""
        if not silent or self.over or not self._options.silence_seconds:
            self._since = None
            return ""
        if self._since is None:
            self._since = now
        if now - self._since < self._options.silence_seconds:
            return ""
        self._since = None
        if self._asked < len(self._options.silence_prompts):
            self._asked += 1
            return self._options.silence_prompts[self._asked - 1]
        self.over = True
        return self._options.silence_goodbye
