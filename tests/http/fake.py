"""A call control of a few lines."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from sipagent.http.control import CallEvent, CallRequest, CallView, Refusal, Refused, TransferWish
from sipagent.service.config.tree import Config, Http, Limits, Trunk

TOKEN = "a-long-enough-token"
CONFIG = Config(
    trunk=(Trunk("office", "sip:trunk.example", username="agent"),),
    http=Http(listen="127.0.0.1:0", token=TOKEN),
    limits=Limits(allow_hosts=("pbx.example:5070",), deny_numbers=("+4900*",), place_per_minute=600),
)


class FakeControl:
    """Keeps what was asked, and refuses when told so."""

    def __init__(self) -> None:
        self.requests: list[CallRequest] = []
        self.asked: list[tuple[Any, ...]] = []
        self.refusal: Refused | None = None
        self.views: dict[str, CallView] = {}
        self.log: list[CallEvent] = []
        self.more = asyncio.Event()
        self.over = False
        self.watching = 0
        self.is_ready = True
        self.capture_file: Path | None = None
        self.recording_file: Path | None = None

    def happen(self, type: str, **data: Any) -> None:
        self.log.append(CallEvent(len(self.log) + 1, type, 1.5, data))
        self.more.set()
        self.more = asyncio.Event()

    def finish(self) -> None:
        self.over = True
        self.more.set()

    def place(self, request: CallRequest) -> CallView:
        if self.refusal is not None:
            raise self.refusal
        self.requests.append(request)
        view = CallView(
            f"c{len(self.requests)}", "outbound", "offered", request.from_number, request.to, "office", "a:B", 1.0
        )
        self.views[view.id] = view
        return view

    def calls(self) -> Sequence[CallView]:
        return list(self.views.values())

    def call(self, call_id: str) -> CallView:
        if call_id not in self.views:
            raise Refused(Refusal.NO_SUCH_CALL, f"no call {call_id}")
        return self.views[call_id]

    def ladder(self, call_id: str) -> str:
        self.call(call_id)
        return "    0.000  <--  INVITE sip:agent@127.0.0.1  (1 INVITE)"

    def ladder_svg(self, call_id: str) -> str:
        self.call(call_id)
        return '<svg xmlns="http://www.w3.org/2000/svg"/>'

    def capture(self, call_id: str, on: bool) -> None:
        self.call(call_id)
        if self.refusal is not None:
            raise self.refusal
        self.asked.append(("capture" if on else "no capture", call_id))

    def captured(self, call_id: str) -> Path:
        self.call(call_id)
        if self.capture_file is None:
            raise Refused(Refusal.NO_CAPTURE, "nobody has asked for one")
        return self.capture_file

    def record(self, call_id: str, action: str, suffix: str = "") -> None:
        self.call(call_id)
        if self.refusal is not None:
            raise self.refusal
        self.asked.append(("record", call_id, action, suffix))

    def recorded(self, call_id: str) -> Path:
        self.call(call_id)
        if self.recording_file is None:
            raise Refused(Refusal.NO_RECORDING, "nobody has asked for one")
        return self.recording_file

    def hangup(self, call_id: str, reason: str) -> None:
        self.views[call_id] = replace(self.call(call_id), state="ending")
        self.asked.append(("hangup", call_id, reason))

    def answer(self, call_id: str) -> None:
        self.call(call_id)
        if self.refusal is not None:
            raise self.refusal
        self.asked.append(("answer", call_id))

    def reject(self, call_id: str, status: int, reason: str, contact: str, retry_after_seconds: int) -> None:
        self.call(call_id)
        self.asked.append(("reject", call_id, str(status), reason, contact, str(retry_after_seconds)))

    def press_digits(self, call_id: str, digits: str) -> None:
        self.call(call_id)
        if self.refusal is not None:
            raise self.refusal
        self.asked.append(("dtmf", call_id, digits))

    def transfer(self, call_id: str, wish: TransferWish) -> None:
        self.call(call_id)
        self.asked.append(("transfer", call_id, wish))

    def whisper(self, call_id: str, text: str, to: str) -> None:
        self._joined(call_id)
        self.asked.append(("whisper", call_id, text, to))

    def step_in(self, call_id: str, heard: bool) -> None:
        self._joined(call_id)
        self.asked.append(("step_in", call_id, heard))

    def take_back(self, call_id: str) -> None:
        self._joined(call_id)
        self.asked.append(("take_back", call_id))

    def _joined(self, call_id: str) -> None:
        self.call(call_id)
        if self.refusal is not None:
            raise self.refusal

    def hold(self, call_id: str, held: bool) -> None:
        self.call(call_id)
        self.asked.append(("hold" if held else "resume", call_id))

    def events(self, call_id: str, after: int = 0) -> AsyncIterator[CallEvent]:
        self.call(call_id)
        return self._events(after)

    async def _events(self, after: int) -> AsyncIterator[CallEvent]:
        self.watching += 1
        try:
            while True:
                more = self.more
                for event in self.log[after:]:
                    after = event.number
                    yield event
                if self.over:
                    return
                await more.wait()
        finally:
            self.watching -= 1

    def health(self) -> Mapping[str, Any]:
        return {"registrations": {"office": "registered"}}

    def ready(self) -> tuple[bool, Mapping[str, Any]]:
        return self.is_ready, {"missing": [] if self.is_ready else ["draining"]}

    def metrics(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("sipagent_calls", "calls that are not over", value=len(self.views))
