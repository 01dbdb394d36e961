"""Prompts and digits that rows sound: loaded beside the line, mixed into what is sent."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.control import DigitsSent, Event, MediaProblem, Play, PlayEnded
from sipagent.rtp.prompt_player import PromptPlayer
from sipagent.rtp.prompts import Prompts
from sipagent.rtp.send import FOR_DIGITS, FOR_PROMPT, Sender
from sipagent.rtp.tone_sender import ToneSender

Rows = NDArray[np.intp]


class Playback:
    """The prompts of all rows; one at a time per row, a new one replaces the old.

    Digits that have to be sounded in-band are heard alone: a prompt pauses meanwhile, as speech does.
    """

    def __init__(self, sender: Sender, generation: NDArray[np.uint32], emit: Callable[[Event], None]) -> None:
        self._sender = sender
        self._generation = generation
        self._emit = emit
        self._prompts = Prompts()
        # A disk may be slow: a thread reads the file while the line goes on.
        self._loader = ThreadPoolExecutor(1, "prompts")
        self._loading: dict[int, tuple[Play, Future[NDArray[np.int16]]]] = {}
        self._players: dict[int, PromptPlayer] = {}
        self._diallers: dict[int, ToneSender] = {}
        self._playing = np.zeros(len(generation), np.bool_)
        sender.add_mixer(self.mix, self._playing)

    def play(self, command: Play, rate_hz: int) -> None:
        """Begin a prompt as soon as it is loaded."""
        future = self._loader.submit(self._prompts.load, command.source, rate_hz)
        self._loading[command.row] = (command, future)
        if command.exclusive:
            self._sender.drop_speech(command.row)
            self._sender.hold(command.row, True, FOR_PROMPT)

    def play_digits(
        self, row: int, digits: str, rate_hz: int, duration_ms: int, gap_ms: int, announced: str = ""
    ) -> None:
        """Sound digits in-band, behind those that are sounding; their end is told. ValueError when they are none."""
        dialler = self._diallers.get(row) or ToneSender(rate_hz)
        dialler.add(digits, duration_ms, gap_ms, announced)
        self._diallers[row] = dialler
        self._playing[row] = True
        self._sender.hold(row, True, FOR_DIGITS)

    def dials(self, row: int) -> bool:
        """Whether digits are sounding in the row."""
        return row in self._diallers

    def stop(self, row: int) -> None:
        """Fade the row's prompt out within one packet."""
        if self._loading.pop(row, None) is not None:
            self._sender.hold(row, False, FOR_PROMPT)
        player = self._players.get(row)
        if player is not None:
            player.stopping = True

    def close(self, row: int) -> None:
        """The row's call is over."""
        self._loading.pop(row, None)
        self._players.pop(row, None)
        self._diallers.pop(row, None)
        self._playing[row] = False
        self._sender.hold(row, False, FOR_PROMPT | FOR_DIGITS)

    def shut_down(self) -> None:
        """End the loading thread."""
        self._loader.shutdown(wait=False, cancel_futures=True)

    def begin_loaded(self) -> None:
        """Start the prompts whose files have been read; to be called once a tick."""
        if not self._loading:
            return
        for row in [row for row, (_, future) in self._loading.items() if future.done()]:
            command, future = self._loading.pop(row)
            error = future.exception()
            if error is not None:  # of whatever kind: a file must not end the calls of others
                self._sender.hold(row, False, FOR_PROMPT)
                self._emit(MediaProblem(str(error), row, command.generation))
                self._emit(PlayEnded(row, command.generation, command.source))
                continue
            self._start(
                row, PromptPlayer(command.source, future.result(), command.loop, command.gain, command.exclusive)
            )

    def mix(self, rows: Rows, samples: int) -> tuple[Rows, NDArray[np.float32]]:
        """The prompts' share of the next packet of `rows`: (rows that play, f4[n, samples])."""
        playing = rows[self._playing[rows]]
        sound = np.zeros((len(playing), samples), np.float32)
        for index, row in enumerate(playing.tolist()):
            if row in self._diallers:
                sound[index] = self._dial(row, samples)
                continue
            sound[index], ended = self._players[row].next(samples)
            if ended:
                self._end(row)
        return playing, sound

    def _dial(self, row: int, samples: int) -> NDArray[np.float32]:
        """The next samples of the row's digits, f4[samples]; on hold they wait."""
        dialler = self._diallers[row]
        if self._sender.sending[row]:
            sound, done = dialler.next(samples)
        else:
            sound, done = np.zeros(samples, np.float32), dialler.interrupt()
        for digits in done:
            self._emit(DigitsSent(row, int(self._generation[row]), digits))
        if not dialler.queue:
            del self._diallers[row]
            self._playing[row] = row in self._players
            self._sender.hold(row, False, FOR_DIGITS)
        return sound

    def _start(self, row: int, player: PromptPlayer) -> None:
        if row in self._players:
            self._end(row)
        self._players[row] = player
        self._playing[row] = True
        self._sender.hold(row, player.exclusive, FOR_PROMPT)

    def _end(self, row: int) -> None:
        player = self._players.pop(row)
        self._playing[row] = row in self._diallers
        self._sender.hold(row, False, FOR_PROMPT)
        self._emit(PlayEnded(row, int(self._generation[row]), player.source))
