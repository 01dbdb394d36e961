"""The caller of the demo: pjsua2, which we did not write, in a process of its own.

    python -m sipagent.demo.caller SCRIPT.json

The script names the account, the callee (or `answer`, to be called), a WAV to record to and the steps. Each step waits
until the agent has spoken and is silent again; `interrupt` and `hangup` come while it has been speaking for a while.
Steps print as JSON lines on standard output with the seconds since the answer.
"""

import json
import sys
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pjsua2 as pj

from sipagent.demo import script

TICK_MS: Final = 20
AGENT_LEVEL: Final = 0.02  # of pjmedia's 0..1 meter: above the comfort noise, below any speech
SILENT_MS: Final = 1000  # the agent has finished when it was silent for so long
PAUSE_MS: Final = 400  # between two sentences of the agent
INTERRUPT_AFTER_MS: Final = 1200
PATIENCE_S: Final = 25.0


class Conversation(pj.Call):  # type: ignore[misc]
    """The call, as far as pjsua2 wants to tell us."""

    def __init__(
        self, account: pj.Account, recorder: pj.AudioMediaRecorder, room: pj.AudioMediaPlayer, call_id: int = -1
    ) -> None:
        super().__init__(account, call_id)
        self._recorder = recorder
        self._room = room
        self.audio: pj.AudioMedia | None = None
        self.over = False
        self.status = 0

    def onCallState(self, prm: Any) -> None:  # noqa: N802
        """Called by pjsua2."""
        info = self.getInfo()
        self.status = info.lastStatusCode
        self.over = info.state == pj.PJSIP_INV_STATE_DISCONNECTED

    def onCallMediaState(self, prm: Any) -> None:  # noqa: N802
        """Called by pjsua2."""
        info = self.getInfo()  # held while its vector is read: the C++ object dies with the Python one
        for index, media in enumerate(info.media):
            if media.type == pj.PJMEDIA_TYPE_AUDIO and media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                self.audio = self.getAudioMedia(index)
                self.audio.startTransmit(self._recorder)
                self._room.startTransmit(self.audio)


class Line(pj.Account):  # type: ignore[misc]
    """The caller's account. A call that comes in needs its object at once, or pjsua2 hangs up."""

    def __init__(self, take: Callable[[int], Conversation]) -> None:
        super().__init__()
        self._take = take
        self.ringing: Conversation | None = None

    def onIncomingCall(self, prm: Any) -> None:  # noqa: N802
        """Called by pjsua2."""
        self.ringing = self._take(prm.callId)


class Caller:
    """Runs the steps of a script against one call."""

    def __init__(self, story: dict[str, Any]) -> None:
        self._script = story
        self._endpoint = pj.Endpoint()
        self._endpoint.libCreate()
        config = pj.EpConfig()
        config.logConfig.level = config.logConfig.consoleLevel = 4
        config.uaConfig.threadCnt = 0
        config.uaConfig.mainThreadOnly = True
        config.medConfig.noVad = True
        config.medConfig.clockRate = config.medConfig.sndClockRate = 8000
        self._endpoint.libInit(config)
        self._endpoint.audDevManager().setNullDev()
        transport = pj.TransportConfig()
        transport.boundAddress = story["address"]
        self._endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
        self._endpoint.libStart()
        for codec in self._endpoint.codecEnum2():
            self._endpoint.codecSetPriority(codec.codecId, 200 if codec.codecId.startswith("PCMU") else 0)
        self._account = self._make_account(story)
        self._recorder = pj.AudioMediaRecorder()
        self._recorder.createRecorder(story["record"])
        self._players: list[pj.AudioMediaPlayer] = []
        self._room = pj.AudioMediaPlayer()  # a quiet room: a phone sends packets also while nobody speaks
        self._room.createPlayer(story["room"])
        self._silent_ms = 0.0
        self._speaking_ms = 0.0
        self._spoke = False
        self._answered_at = 0.0

    def _make_account(self, story: dict[str, Any]) -> Line:
        config = pj.AccountConfig()
        config.idUri = story["from"]
        config.mediaConfig.transportConfig.boundAddress = story["address"]
        config.mediaConfig.transportConfig.publicAddress = story["address"]
        if story.get("registrar"):
            config.regConfig.registrarUri = story["registrar"]
            config.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", story["username"], 0, story["password"]))
        account = Line(self._conversation)
        account.create(config)
        return account

    def run(self) -> None:
        """Place the call, run the steps, wait for the end."""
        self._converse()  # pjsua2's objects of the call must be gone before the library is
        del self._recorder, self._room, self._players
        self._account.shutdown()
        self._endpoint.libDestroy()

    def _converse(self) -> None:
        call = self._answer() if self._script.get("answer") else self._dial()
        self._until(lambda: call.audio is not None or call.over, call)
        self._answered_at = time.monotonic()
        self._tell("answered", status=call.status)
        for step in self._script["steps"]:
            if call.over:
                break
            self._step(call, step)
        self._until(lambda: call.over, call)
        if not call.over:
            call.hangup(pj.CallOpParam())
            self._until(lambda: call.over, call)
        self._tell("ended", status=call.status)
        call.audio = None

    def _conversation(self, call_id: int = -1) -> Conversation:
        return Conversation(self._account, self._recorder, self._room, call_id)

    def _dial(self) -> Conversation:
        call = self._conversation()
        parameters = pj.CallOpParam(True)
        parameters.opt.videoCount = parameters.opt.textCount = 0
        call.makeCall(self._script["to"], parameters)
        return call

    def _answer(self) -> Conversation:
        """Wait until the phone rings, and take the call."""
        limit = time.monotonic() + PATIENCE_S
        while self._account.ringing is None and time.monotonic() < limit:
            self._endpoint.libHandleEvents(TICK_MS)
        call, self._account.ringing = self._account.ringing, None
        if call is None:
            raise SystemExit("nobody called")
        parameters = pj.CallOpParam(True)
        parameters.statusCode = pj.PJSIP_SC_OK
        call.answer(parameters)
        return call

    def _step(self, call: Conversation, step: dict[str, Any]) -> None:
        if step["do"] in ("interrupt", "hangup"):
            self._until(lambda: call.over or self._speaking_ms >= INTERRUPT_AFTER_MS, call)
        else:
            self._until(lambda: call.over or (self._spoke and self._silent_ms >= SILENT_MS), call)
        if call.over:
            return
        self._spoke = False
        self._tell(step["do"], **{key: value for key, value in step.items() if key != "do"})
        match step["do"]:
            case "say" | "interrupt":
                self._say(call, step["wav"])
            case "press":
                call.dialDtmf(step["digits"])
            case "hangup":
                call.hangup(pj.CallOpParam())

    def _say(self, call: Conversation, path: str) -> None:
        with wave.open(path) as clip:
            seconds = clip.getnframes() / clip.getframerate()
        player = pj.AudioMediaPlayer()
        player.createPlayer(path, pj.PJMEDIA_FILE_NO_LOOP)
        self._players.append(
            player
        )  # removing it from the bridge in mid-call can lock pjsua2 up, as can an end of file
        player.startTransmit(call.audio)
        until = time.monotonic() + seconds - script.PADDING_S
        self._until(lambda: call.over or time.monotonic() >= until, call)
        if not call.over:
            player.stopTransmit(call.audio)
        self._spoke = False  # what it said before or meanwhile is no answer to us
        self._tell("said")

    def _until(self, done: Any, call: Conversation) -> None:
        """Turn pjsua2's loop until `done`, watching how loud the agent is."""
        limit = time.monotonic() + PATIENCE_S
        while not done() and time.monotonic() < limit:
            started = time.monotonic()
            self._endpoint.libHandleEvents(TICK_MS)
            if call.audio is not None and not call.over:
                elapsed_ms = (time.monotonic() - started) * 1000
                loud = call.audio.getTxLevel() / 255 > AGENT_LEVEL
                self._silent_ms = 0.0 if loud else self._silent_ms + elapsed_ms
                talking = loud or (self._speaking_ms and self._silent_ms < PAUSE_MS)
                self._speaking_ms = self._speaking_ms + elapsed_ms if talking else 0.0
                self._spoke = self._spoke or loud

    def _tell(self, what: str, **more: Any) -> None:
        at = time.monotonic() - self._answered_at if self._answered_at else 0.0
        print(json.dumps({"at": round(at, 3), "what": what, **more}), flush=True)


if __name__ == "__main__":
    Caller(json.loads(Path(sys.argv[1]).read_text())).run()
