"""Session timers (RFC 4028): who refreshes, when, and when the call is over; a day in virtual time."""

import pytest

from sipagent.errors import ParseError
from sipagent.sip.session_timer import (
    Refresher,
    SessionExpires,
    SessionTimer,
    TimerAction,
    TimerPolicy,
    parse_session_expires,
)

SUPPORTED = ("Supported", "timer, replaces")
BY_CALLER = (("Require", "timer"), ("Session-Expires", "1800;refresher=uac"))


def timer(interval_s: int = 1800, min_se_s: int = 90) -> SessionTimer:
    return SessionTimer(TimerPolicy(interval_s, min_se_s))


def exchange(caller: SessionTimer, callee: SessionTimer, now: float) -> None:
    """One INVITE or UPDATE from one to the other, repeated after 422 as the caller wants."""
    while True:
        judgement = callee.judge(caller.request_headers())
        if judgement.status == 200:
            callee.answered(now)
            caller.accepted(judgement.headers, now)
            return
        assert caller.refused(judgement.status, judgement.headers, now)


def test_session_expires_is_read_and_rubbish_refused():
    assert parse_session_expires("1800;refresher=UAS") == SessionExpires(1800, Refresher.UAS)
    assert parse_session_expires(" 90 ") == SessionExpires(90)
    assert parse_session_expires("90;refresher=me;x=y") == SessionExpires(90)
    for text in ("", "x", "-1", "90 seconds", "90;=;"):
        with pytest.raises(ParseError):
            parse_session_expires(text)


# ---- as the one who asks


@pytest.mark.rfc(
    "4028",
    "7.1",
    "SHOULD",
    role="UAC",
    text="the INVITE asks for our interval (1800 s, Min-SE 90) and leaves the role open",
)
def test_the_first_request_asks_for_our_interval_and_leaves_the_role_open():
    assert timer().request_headers() == (("Supported", "timer"), ("Session-Expires", "1800"))
    assert timer(600, 120).request_headers()[1:] == (("Session-Expires", "600"), ("Min-SE", "120"))
    assert timer(0).request_headers() == (("Supported", "timer"),)


@pytest.mark.rfc("4028", "10", "SHOULD", role="UAC", text="as refresher: at half of the interval")
@pytest.mark.parametrize("answer", ["1800;refresher=uac", "1800"])
def test_as_refresher_we_refresh_at_half_and_give_up_before_the_end(answer):
    ours = timer()
    ours.accepted((("Session-Expires", answer),), 100.0)
    assert ours.deadline == 1000.0
    assert ours.on_deadline(999.9) is None
    assert ours.on_deadline(1000.0) is TimerAction.REFRESH
    assert ("Session-Expires", "1800;refresher=uac") in ours.request_headers()
    assert ours.deadline == 100.0 + 1800 - 32
    assert ours.on_deadline(1868.0) is TimerAction.BYE
    assert ours.deadline is None


@pytest.mark.rfc("4028", "10", "SHOULD", role="both", text="the other side sends BYE at expiry - min(32 s, SE/3)")
def test_as_the_other_one_we_only_watch_the_clock():
    ours = timer()
    ours.accepted((("Session-Expires", "90;refresher=uas"),), 0.0)
    assert ours.deadline == 60.0  # a third of 90 is less than 32
    assert ("Session-Expires", "90;refresher=uas") in ours.request_headers()
    assert ours.on_deadline(60.0) is TimerAction.BYE


@pytest.mark.rfc("4028", "7.2", "MUST", role="UAC", text="a 2xx without Session-Expires means no timer")
def test_an_answer_without_session_expires_means_no_timer():
    ours = timer()
    ours.accepted((("Session-Expires", "1800;refresher=uac"),), 0.0)
    ours.accepted((), 10.0)
    assert ours.deadline is None
    ours.accepted((("Session-Expires", "rubbish"),), 10.0)
    assert ours.deadline is None


def test_an_absurdly_short_interval_does_not_keep_us_busy():
    ours = timer()
    ours.accepted((("Session-Expires", "1;refresher=uac"),), 0.0)
    assert ours.deadline == 5.0


def test_422_raises_the_interval_and_says_so():
    ours = timer(300)
    assert ours.refused(422, (("Min-SE", "600"),), 0.0)
    assert ours.request_headers()[1:] == (("Session-Expires", "600"), ("Min-SE", "600"))
    assert not ours.refused(422, (("Min-SE", "600"),), 0.0)  # once is enough
    assert not ours.refused(422, (("Min-SE", "999999"),), 0.0)
    assert not ours.refused(422, (), 0.0)


def test_a_refresh_that_fails_is_tried_again_until_it_is_too_late():
    ours = timer()
    ours.accepted((("Session-Expires", "1800;refresher=uac"),), 0.0)
    now, refreshes = 0.0, 0
    while True:
        now = ours.deadline
        if ours.on_deadline(now) is TimerAction.BYE:
            break
        refreshes += 1
        ours.refused(500, (), now)
    assert now == 1768.0
    assert refreshes >= 3


@pytest.mark.rfc("4028", "7.4", "SHOULD", role="UAC", text="481 or 408 to a refresh ends the call")
@pytest.mark.parametrize("status", [408, 481])
def test_a_refresh_that_finds_nobody_ends_the_call(status):
    ours = timer()
    ours.accepted((("Session-Expires", "1800;refresher=uac"),), 0.0)
    ours.on_deadline(900.0)
    ours.refused(status, (), 901.0)
    assert ours.on_deadline(901.0) is TimerAction.BYE


# ---- as the one who answers


def test_an_interval_that_is_too_small_gets_422_with_ours():
    judgement = timer(min_se_s=120).judge((SUPPORTED, ("Session-Expires", "90")))
    assert (judgement.status, judgement.headers) == (422, (("Min-SE", "120"),))
    old = timer(min_se_s=120).judge((("Session-Expires", "90"),))  # without "timer" it could not understand 422
    assert old.status == 200


@pytest.mark.rfc("4028", "9", "MUST", role="UAS", text="the 2xx names the refresher by table 2")
@pytest.mark.parametrize(
    ("request_headers", "headers", "refreshing"),
    [
        (
            (SUPPORTED, ("Session-Expires", "1800;refresher=uac")),
            (("Require", "timer"), ("Session-Expires", "1800;refresher=uac")),
            False,
        ),
        (
            (SUPPORTED, ("x", "1800;refresher=uas")),
            (("Require", "timer"), ("Session-Expires", "1800;refresher=uas")),
            True,
        ),
        ((SUPPORTED, ("Session-Expires", "1800")), BY_CALLER, False),
        ((SUPPORTED,), BY_CALLER, False),
        ((("k", "Timer"),), BY_CALLER, False),
        ((("Session-Expires", "1800"),), (("Session-Expires", "1800;refresher=uas"),), True),  # a proxy's wish
    ],
)  # fmt: skip
def test_the_answer_names_the_refresher_by_table_2(request_headers, headers, refreshing):
    ours = timer()
    judgement = ours.judge(request_headers)
    assert (judgement.status, judgement.headers) == (200, headers)
    ours.answered(0.0)
    assert ours.refreshing is refreshing
    assert ours.deadline == (900.0 if refreshing else 1768.0)


@pytest.mark.rfc("4028", "9", "MUST", role="UAS", text="the interval is lowered, never below Min-SE")
def test_a_longer_wish_is_lowered_to_ours_but_not_below_their_minimum():
    ours = timer(600)
    assert ours.judge((SUPPORTED, ("Session-Expires", "3600"))).headers[1][1].startswith("600;")
    assert ours.judge((SUPPORTED, ("Session-Expires", "3600"), ("Min-SE", "1200"))).headers[1][1].startswith("1200;")


@pytest.mark.rfc("4028", "9", "MUST", role="UAS", text="a far end without the extension gets no Require: timer")
def test_nothing_is_answered_to_a_far_end_without_timers_and_the_timer_stops():
    ours = timer()
    assert ours.judge(()).headers == ()
    ours.answered(0.0)
    assert ours.deadline is None
    assert timer(0).judge((SUPPORTED,)).headers == ()


def test_switched_off_we_still_refresh_for_a_far_end_that_insists():
    ours = timer(0)
    ours.judge((SUPPORTED, ("Session-Expires", "300;refresher=uas")))
    ours.answered(0.0)
    assert (ours.refreshing, ours.deadline) == (True, 150.0)


# ---- both


def test_both_sides_agree_after_422():
    caller, callee = timer(100), timer(1800, min_se_s=300)
    exchange(caller, callee, 0.0)
    assert caller.interval_s == callee.interval_s == 300
    assert (caller.refreshing, callee.refreshing) == (True, False)


@pytest.mark.rfc("4028", "10", "MUST", role="both", text="a call of 24 hours lives in both roles")
@pytest.mark.parametrize("we_call", [True, False])
@pytest.mark.parametrize("interval_s", [90, 600, 1800])
@pytest.mark.parametrize("callee_refreshes", [True, False])
def test_a_call_of_24_hours_is_refreshed_in_both_roles_and_never_ended(we_call, interval_s, callee_refreshes):
    caller, callee = timer(interval_s), timer(interval_s)
    exchange(caller, callee, 0.0)
    if callee_refreshes:  # a re-INVITE that hands the role over
        judgement = callee.judge((SUPPORTED, ("Session-Expires", f"{interval_s};refresher=uas")))
        callee.answered(0.0)
        caller.accepted(judgement.headers, 0.0)
    now, refreshes = 0.0, 0
    while now < 86_400:
        now = min(caller.deadline, callee.deadline)
        for one, other in ((caller, callee), (callee, caller)):
            action = one.on_deadline(now)
            assert action is not TimerAction.BYE
            if action is TimerAction.REFRESH:
                assert one.refreshing
                assert (one is callee) is callee_refreshes
                exchange(one, other, now)
                refreshes += 1
        if refreshes % 7 == 3:  # the other side re-INVITEs for its own reasons; the roles stay
            exchange(*((callee, caller) if we_call else (caller, callee)), now)
        assert caller.refreshing is not callee.refreshing
    assert refreshes == pytest.approx(86_400 / (interval_s / 2), abs=2)


def test_when_the_far_end_falls_silent_the_call_ends_within_one_interval():
    caller, callee = timer(1800), timer(1800)
    exchange(caller, callee, 0.0)
    assert callee.on_deadline(callee.deadline) is TimerAction.BYE
