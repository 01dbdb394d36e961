"""Who vouches for a caller's number, as call control sees it: who is admitted, and who is told."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipagent.calls import screening
from sipagent.calls.call import Call
from sipagent.calls.screening import claims_of
from sipagent.calls.signing import attestation
from sipagent.service import messages
from sipagent.service.config.tree import Config, Limits, Sip, Trunk
from sipagent.service.http_control import HttpControl
from sipagent.service.metrics import identity
from sipagent.sip import engine as sip
from sipagent.stir.telephone import Name
from tests.calls.board import CONFIG, SDP, Board
from tests.support.stir import URL, Authority, Signing, tn_auth_list

AUTHORITY = Authority(time.time())
SIGNING = AUTHORITY.issue(tn_auth_list(numbers=("12155551212",)))
CALLER, CALLED = "+12155551212", "+12155551213"


@pytest.fixture
def checked(tmp_path: Path) -> Callable[..., Config]:
    """A configuration with a trust anchor and one certificate."""
    (tmp_path / "anchors.pem").write_bytes(AUTHORITY.anchor)
    SIGNING.save_chain(tmp_path / "certificates")

    def make(policy: str = "report", *hosts: str) -> Config:
        table = Sip(
            stir=policy,  # type: ignore[arg-type]
            stir_trust_anchors=str(tmp_path / "anchors.pem"),
            stir_certificates=str(tmp_path / "certificates"),
            stir_hosts=hosts,
        )
        return msgspec.structs.replace(CONFIG, sip=table)

    return make


def calling(
    board: Board, *headers: tuple[str, str], handle: str = "in1", caller: str = f"sip:{CALLER}@y"
) -> Call | None:
    """An INVITE; the call, when it was admitted."""
    event = sip.IncomingCall(
        handle, "office", f"sip:{CALLED}@x", caller, "", f"sip:{CALLED}@x", SDP, headers, ("127.0.0.1", 5099)
    )
    board.control.on_engine(event)
    return board.life.calls.by_handle(handle)


@pytest.mark.rfc("8224", "6.2.2", "MUST", role="UAS", text="428, 436, 437, 438, 403 are answered where that is wanted")
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (lambda: (), 428),
        (lambda: SIGNING.headers(CALLER, CALLED, time.time() - 120), 403),
        (lambda: SIGNING.headers(CALLER, CALLED, time.time(), url="https://else.test/"), 436),
        (lambda: SIGNING.headers(CALLER, "+1", time.time()), 438),
        (lambda: (("Identity", "x"),), 438),
    ],
    ids=["none", "old", "no certificate", "another call", "rubbish"],
)
async def test_a_caller_whose_identity_does_not_hold_is_refused_when_one_is_required(
    checked: Callable[..., Config], headers: Callable[[], sip.HeaderList], status: int
) -> None:
    board = Board(checked("require"))
    assert calling(board, *headers()) is None
    assert board.engine.to("in1")[0][:2] == ("reject", status)
    assert board.life.refused == {"stir": 1}
    assert len(board.engine.to("in1")) == 1


async def test_a_caller_whose_identity_holds_is_told_to_brain_record_http_and_metrics(
    checked: Callable[..., Config],
) -> None:
    board = Board(checked("require"))
    call = calling(board, *SIGNING.headers(CALLER, CALLED, time.time()))
    assert call is not None
    offer = board.worker.heard[0]
    assert isinstance(offer, messages.Offer)
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(offer), type=messages.Offer)
    assert (sent.party.stir.result, sent.party.stir.attestation) == ("passed", "A")
    assert call.summary()["stir"]["signer"] == "CN=SHAKEN 1234"
    http = HttpControl(board.control)
    assert http.call(call.id).stir["authority"] == "listed"
    assert board.events(call, "identity")[0]["attestation"] == "A"
    assert board.engine.to("in1") == [("ring", ())]
    families = identity(board.control.inbound.screening.verdicts, {})
    assert [sample.labels for family in families for sample in family.samples] == [{"result": "A"}]


@pytest.mark.rfc("9410", "4", "SHOULD", role="UAS", text="an Identity that fails is told in a Reason of the 180")
async def test_a_failure_is_reported_and_the_call_goes_on_when_nothing_is_required(
    checked: Callable[..., Config],
) -> None:
    board = Board(checked("report"))
    call = calling(board, *SIGNING.headers(CALLER, "+1", time.time()))
    assert call is not None
    assert call.party.stir.status == 438
    reason = 'STIR ;cause=438 ;text="Invalid Identity Header"'
    assert board.engine.to("in1") == [("ring", (("Reason", reason),))]
    assert calling(board, handle="in2") is not None
    assert board.engine.to("in2") == [("ring", ())], "without an Identity there is nothing to complain of"


async def test_nobody_is_asked_without_trust_anchors() -> None:
    board = Board()
    call = calling(board, ("Identity", "x"))
    assert call is not None and call.party.stir.result == "unchecked"
    assert not board.events(call, "identity")


async def test_a_trunks_asserted_identity_counts_before_from(checked: Callable[..., Config]) -> None:
    board = Board(checked("require"))
    asserted = ("P-Asserted-Identity", f'"A" <sip:{CALLER}@z>, <tel:{CALLER}>')
    call = calling(
        board, asserted, *SIGNING.headers(CALLER, CALLED, time.time()), caller="sip:anonymous@anonymous.invalid"
    )
    assert call is not None and call.party.stir.number == "12155551212"


class Silent:
    """A certificate server that takes connections and says nothing; leaving it waits until all of them are closed."""

    def __init__(self) -> None:
        self.asked, self.open, self.host = asyncio.Event(), 0, ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.asked.set()
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self.open -= 1

    async def __aenter__(self) -> "Silent":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.host = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        async with asyncio.timeout(10):
            while self.open:
                await asyncio.sleep(0.01)


async def test_a_slow_certificate_delays_its_own_caller_alone(checked: Callable[..., Config]) -> None:
    async with Silent() as silent:
        host = silent.host
        board = Board(checked("report", host))
        signed = SIGNING.headers(CALLER, CALLED, time.time(), url=f"https://{host}/a.pem")
        assert calling(board, *signed) is None
        assert calling(board, *signed, handle="in2") is None
        await asyncio.wait_for(silent.asked.wait(), 10)
        assert calling(board, *SIGNING.headers(CALLER, CALLED, time.time()), handle="in3") is not None
        for _ in range(2):
            board.control.sweep._dialogs()
            board.engine.handles = lambda: ("in1", "in2", "in3")  # type: ignore[attr-defined]
            assert not [stray for stray in board.control.sweep._dialogs() if stray.what == "dialog_without_call"]
        board.control.on_engine(sip.Cancelled("in1"))
        async with asyncio.timeout(20):  # the fetch is given up after a second
            while (late := board.life.calls.by_handle("in2")) is None:
                await asyncio.sleep(0.01)
        assert (late.party.stir.result, late.party.stir.status) == ("failed", 436)
        assert board.life.calls.by_handle("in1") is None, "who gave up is not admitted afterwards"
        assert board.engine.to("in1") == []
        assert board.control.inbound.screening.handles == frozenset()


async def test_no_more_callers_wait_than_we_can_hold(
    checked: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screening, "MAX_WAITING", 2)
    async with Silent() as silent:
        board = Board(checked("require", silent.host))
        signed = SIGNING.headers(CALLER, CALLED, time.time(), url=f"https://{silent.host}/")
        for handle in ("in1", "in2", "in3"):
            calling(board, *signed, handle=handle)
        assert board.engine.to("in3")[0][:2] == ("reject", 436)
        assert board.control.inbound.screening.handles == {"in1", "in2"}
        await board.control.inbound.screening.close()
        assert board.engine.to("in1") == board.engine.to("in2") == []


async def test_a_caller_who_waited_meets_a_full_house(checked: Callable[..., Config]) -> None:
    async with Silent() as silent:
        board = Board(msgspec.structs.replace(checked("report", silent.host), limits=Limits(max_calls=1)))
        assert calling(board, *SIGNING.headers(CALLER, CALLED, time.time(), url=f"https://{silent.host}/")) is None
        assert calling(board, handle="in2") is not None
        async with asyncio.timeout(20):
            while not board.engine.to("in1"):
                await asyncio.sleep(0.01)
        assert board.engine.to("in1")[0][:2] == ("reject", 503)


async def test_a_check_that_breaks_leaves_nobody_waiting(checked: Callable[..., Config]) -> None:
    board = Board(checked("report", "cert.test"))
    verifier = board.control.inbound.screening._verifier
    assert verifier is not None

    async def broken(*_: object) -> None:
        raise RuntimeError("a mistake of ours")

    verifier.verify = broken  # type: ignore[assignment]
    assert calling(board, *SIGNING.headers(CALLER, CALLED, time.time(), url="https://cert.test/other.pem")) is None
    async with asyncio.timeout(5):
        while (call := board.life.calls.by_handle("in1")) is None:
            await asyncio.sleep(0)
    assert call.party.stir.reason == "the check itself failed"


@settings(deadline=None)
@given(st.text(), st.text(), st.text(), st.text())
def test_any_headers_can_be_read(caller: str, called: str, date: str, asserted: str) -> None:
    headers = (("Date", date), ("P-Asserted-Identity", asserted), ("Identity", date))
    claims_of(sip.IncomingCall("h", "office", called, caller, "", called, None, headers, ("", 0)))


# ---- calls that we sign


def signing_config(tmp_path: Path, signing: Signing = SIGNING, attest: str = "A") -> Config:
    key = signing.save_key(tmp_path / "key.pem")
    trunk = Trunk(
        "office", "sip:127.0.0.1:5099", username="agent", caller_id=CALLER, register=False, stir_key=str(key),
        stir_x5u=URL, stir_attest=attest,  # type: ignore[arg-type]
    )  # fmt: skip
    return msgspec.structs.replace(CONFIG, trunk=(trunk,))


def placed(board: Board, to: str = CALLED, shown: str = "") -> sip.PlaceCall:
    config = board.life.config
    call = board.control.outbound.place(to, shown, config.trunk[0], config.route[0], {})
    assert call is not None
    board.says(messages.Accept(call.id))
    return board.placed()[1]


@pytest.mark.rfc("8224", "6.1", "MUST", role="UAC", text="a call by a trunk with a key carries Date and Identity")
@pytest.mark.rfc("8588", "5", "MUST", role="UAC", text="attest and origid are signed")
async def test_a_call_by_a_trunk_with_a_key_is_signed_and_passes_our_own_check(
    tmp_path: Path, checked: Callable[..., Config]
) -> None:
    board = Board(signing_config(tmp_path))
    call = placed(board)
    assert [name for name, _ in call.headers] == ["Date", "Identity"]
    other_side = Board(checked("require"))
    heard = calling(other_side, *call.headers)
    assert heard is not None and heard.party.stir.attestation == "A"
    assert other_side.engine.names("in1") == ["ring"]
    assert board.control.outbound.signing.signed == {"A": 1}


async def test_a_call_that_the_far_end_asks_us_to_move_is_signed_too(tmp_path: Path) -> None:
    board = Board(msgspec.structs.replace(signing_config(tmp_path), sip=Sip(refer="allow")))
    call = calling(board)
    assert call is not None
    board.says(messages.Accept(call.id))
    board.control.on_engine(sip.Confirmed("in1"))
    board.life.connect(call)
    board.control.on_engine(sip.TransferRequested("in1", "sip:+12155550000@127.0.0.1:5099", ""))
    assert [name for name, _ in board.placed()[1].headers] == ["Date", "Identity"]
    assert board.control.outbound.signing.signed == {"B": 1}, "it shows the number that was called, not the trunk's own"


async def test_a_call_without_a_key_or_a_number_is_not_signed(tmp_path: Path) -> None:
    assert placed(Board()).headers == ()
    board = Board(signing_config(tmp_path))
    assert placed(board, shown="reception").headers == ()
    (tmp_path / "key.pem").unlink()
    assert placed(board).headers == ()
    assert board.control.outbound.signing.signed == {"unsigned": 2}


@pytest.mark.rfc("8588", "4", "MUST", role="UAC", text="full attestation is given of our own numbers only")
@pytest.mark.parametrize(
    ("number", "foreign", "configured", "attest"),
    [
        (CALLER, False, "A", "A"),
        ("12155551212", False, "A", "A"),
        (CALLER, False, "C", "C"),
        ("+12150000000", False, "A", "B"),
        ("+12150000000", False, "C", "C"),
        ("+12150000000", True, "A", "C"),
    ],
)
def test_full_attestation_is_given_of_our_own_numbers_only(
    number: str, foreign: bool, configured: str, attest: str
) -> None:
    trunk = Trunk("t", "x", caller_id=CALLER, stir_attest=configured)  # type: ignore[arg-type]
    assert attestation(trunk, number, foreign) == attest


def test_claims_name_the_caller_as_the_trunk_asserts_it() -> None:
    headers = (("p-asserted-identity", "<sip:+49301@x>"), ("date", "Sat, 13 Nov 2010 23:29:00 GMT"))
    for trunk, callers in (("office", ("49301", "49302")), ("", ("49302",))):
        claimed = claims_of(sip.IncomingCall("h", trunk, "", "sip:+49302@x", "", "sip:1@x", None, headers, ("", 0)))
        assert claimed.callers == tuple(Name("tn", number) for number in callers)
        assert claimed.date == 1289690940.0
