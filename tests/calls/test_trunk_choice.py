"""Which trunk takes a call that names none: the first that is registered, so that a lost one costs no call."""

import msgspec
import pytest

from sipagent.http.control import CallRequest, Refusal, Refused
from sipagent.service import messages
from sipagent.service.config.tree import Trunk
from sipagent.service.http_control import HttpControl
from sipagent.sip.engine import RegistrationChanged, RegistrationState
from tests.calls.board import CONFIG, Board

TWO = msgspec.structs.replace(
    CONFIG, trunk=tuple(Trunk(name, f"sip:127.0.0.1:{port}", username="agent") for name, port in (("a", 1), ("b", 2)))
)
REGISTERED, LOST = RegistrationState.REGISTERED, RegistrationState.UNREACHABLE
REFUSED, REGISTERING = RegistrationState.REFUSED, RegistrationState.REGISTERING


def trunk_of_a_call(*states: RegistrationState, named: str = "", held_s: float = 0.0) -> str:
    """By which trunk a call leaves when the registrations of a and b stand so."""
    board = Board(TWO)
    found = {name: RegistrationChanged(name, state, expires_s=held_s) for name, state in zip("ab", states, strict=True)}
    board.engine.registrations = lambda: found  # type: ignore[attr-defined]
    view = HttpControl(board.control).place(CallRequest("+493012345", trunk=named))
    board.says(messages.Accept(view.id))
    return board.placed()[1].trunk


@pytest.mark.parametrize(
    ("states", "trunk"),
    [
        ((REGISTERED, REGISTERED), "a"),
        ((LOST, REGISTERED), "b"),
        ((REFUSED, REGISTERED), "b"),
        ((REGISTERING, REGISTERED), "b"),
        ((REGISTERED, LOST), "a"),
        ((LOST, RegistrationState.DISABLED), "b"),
        ((LOST, REGISTERING), "b"),
    ],
)
async def test_a_call_leaves_by_the_first_trunk_that_is_registered(
    states: tuple[RegistrationState, RegistrationState], trunk: str
) -> None:
    assert trunk_of_a_call(*states) == trunk


async def test_a_trunk_that_is_named_is_tried_whatever_its_registration_says() -> None:
    assert trunk_of_a_call(LOST, REGISTERED, named="a") == "a"


async def test_a_binding_that_still_holds_is_as_good_as_new() -> None:
    assert trunk_of_a_call(LOST, REGISTERED, held_s=30.0) == "a"


async def test_with_every_trunk_lost_the_call_is_refused_at_once() -> None:
    with pytest.raises(Refused) as refused:
        trunk_of_a_call(LOST, REFUSED)
    assert refused.value.refusal is Refusal.TRUNK_UNAVAILABLE and refused.value.retry_after_seconds > 0
