"""3xx to a call that we placed: who is called next, who is not, and what the record says of it."""

import msgspec
import pytest

from sipagent.calls.call import Call, CallState
from sipagent.service import messages
from sipagent.service.config.tree import Limits, Sip
from sipagent.sip import engine as sip
from tests.calls.board import CONFIG, SDP, Board

FOLLOW = msgspec.structs.replace(
    CONFIG, sip=Sip(redirects="follow"), limits=Limits(allow_hosts=("other.example",), deny_numbers=("+4900*",))
)


def placed(config: object = FOLLOW, to: str = "+4930777") -> tuple[Board, Call]:
    board = Board(config)  # type: ignore[arg-type]
    life = board.life
    call = board.control.outbound.place(to, "", life.config.trunk[0], life.config.route[0], {})
    assert call is not None
    board.says(messages.Accept(call.id))
    return board, call


def refuse(board: Board, status: int, *contacts: str, by: str = "refused", **headers: str) -> None:
    handle, _ = board.placed()
    more = tuple(("Contact", contact) for contact in contacts) + tuple(headers.items())
    board.control.on_engine(sip.Ended(handle, by, status, "", more))


def called(board: Board) -> list[str]:
    return [asked[2].to for asked in board._places()]


async def test_the_addresses_of_a_302_are_called_by_their_q_until_one_takes_the_call() -> None:
    board, call = placed()
    first = call.handle
    refuse(board, 302, "<sip:b@other.example>;q=0.2, <tel:+4930888;phone-context=x>", "<sip:a@other.example>;q=0.7")
    refuse(board, 486)
    refuse(board, 0, by="transport")
    handle, request = board.placed()
    assert called(board) == ["+4930777", "+4930888", "sip:a@other.example", "sip:b@other.example"]
    assert call.handle == handle and board.life.calls.by_handle(first) is None
    assert (request.addressed_to, request.trunk) == ("+4930777", "office")
    board.control.on_engine(sip.Answered(handle, SDP))
    assert call.state is CallState.ANSWERED
    board.control.on_engine(sip.Ended(handle, "remote"))
    assert call.summary()["redirects"] == [
        {"to": "+4930777", "status": 302},
        {"to": "+4930888", "status": 486},
        {"to": "sip:a@other.example", "status": 0},
        {"to": "sip:b@other.example", "status": 200},
    ]
    assert board.life.redirected == {"followed": 3}


async def test_a_redirection_is_only_reported_unless_it_is_to_be_followed() -> None:
    board, call = placed(msgspec.structs.replace(FOLLOW, sip=Sip()))
    refuse(board, 302, "<sip:a@other.example>")
    assert called(board) == ["+4930777"] and call.ending is not None
    assert (call.ending.outcome.value, call.ending.status, call.redirects) == ("not_reachable", 302, [])


@pytest.mark.parametrize(
    ("contact", "problem"),
    [
        ("<sip:a@elsewhere.example>", "calls to the host elsewhere.example are not allowed ([limits] allow_hosts)"),
        ("<sip:+4900123@other.example>", "calls to this number are denied ([limits] deny_numbers)"),
        ("<sip:a@other.example?Route=%3Csip:x%3E>", "not followed"),
        ("<sip:a@other.example;maddr=10.0.0.1>", "not followed"),
        ("<mailto:a@other.example>", "not followed"),
        ("<sip:+4930777@127.0.0.1:5099>", "tried already"),
        ("<tel:+4930777>", "tried already"),
    ],
)
async def test_an_address_that_may_not_be_called_ends_the_call_and_is_told(contact: str, problem: str) -> None:
    board, call = placed()
    refuse(board, 301, contact)
    assert called(board) == ["+4930777"]
    assert call.ending is not None and call.ending.status == 301
    first, refused = call.redirects
    assert first == {"to": "+4930777", "status": 301} and refused["problem"].startswith(problem)
    assert board.events(call, "redirect")[0]["problem"] == refused["problem"]
    assert board.life.redirected == {"loop" if problem == "tried already" else "refused": 1}


async def test_two_addresses_that_name_each_other_are_called_once_each() -> None:
    board, call = placed()
    refuse(board, 302, "<sip:a@other.example>")
    refuse(board, 302, "<sip:b@other.example>")
    refuse(board, 302, "<sip:a@other.example>")
    assert called(board)[1:] == ["sip:a@other.example", "sip:b@other.example"]
    assert call.ending is not None and call.redirects[-1]["problem"] == "tried already"


async def test_after_five_addresses_it_is_enough() -> None:
    board, call = placed()
    for number in range(6):
        refuse(board, 302, f"<sip:a{number}@other.example>")
    assert len(called(board)) == 1 + 5 and call.ending is not None
    assert call.redirects[-1] == {"to": "sip:a5@other.example", "status": 0, "problem": "more than 5 addresses"}


@pytest.mark.parametrize("status", [305, 380])
async def test_a_proxy_or_another_service_is_nowhere_to_go(status: int) -> None:
    board, call = placed()
    refuse(board, status, "<sip:a@other.example>")
    assert called(board) == ["+4930777"] and call.ending is not None


async def test_a_603_of_one_address_speaks_for_all() -> None:
    board, call = placed()
    refuse(board, 302, "<sip:a@other.example>, <sip:b@other.example>")
    refuse(board, 603)
    assert len(called(board)) == 2
    assert call.ending is not None and call.ending.outcome.value == "rejected"


async def test_a_caller_who_hung_up_is_sent_nowhere() -> None:
    board, call = placed()
    board.life.hang_up(call, "no longer needed")
    refuse(board, 302, "<sip:a@other.example>")
    assert called(board) == ["+4930777"]


@pytest.mark.rfc("7044", "10", "SHOULD", role="UAC", text="a call that was redirected says from where, and why")
async def test_the_next_one_is_told_where_the_call_has_been() -> None:
    board, _ = placed()
    refuse(board, 302, "<sip:a@other.example>", Diversion="<sip:+4930777@x>;reason=unconditional")
    refuse(board, 302, "<sip:b@other.example>")
    headers = dict(board.placed()[1].headers)
    assert headers["History-Info"] == (
        "<sip:+4930777@127.0.0.1?Reason=SIP%3Bcause%3D302>;index=1, "
        "<sip:a@other.example?Reason=SIP%3Bcause%3D302>;index=1.1, <sip:b@other.example>;index=1.1.1;mp=1.1"
    )
    assert "Diversion" not in headers  # that of the first 302 was for the one before
    assert ("Diversion", "<sip:+4930777@x>;reason=unconditional") in board._places()[1][2].headers
