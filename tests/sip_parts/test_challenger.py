"""The side that asks for credentials: what is accepted, what has run out, what was used before."""

import pytest

from sipagent.sip.challenger import Challenger, Check, Outcome
from sipagent.sip.digest import Challenge, credentials, parse_challenges, strongest


def challenger(**options) -> Challenger:
    return Challenger("here", {"alice": "secret"}.get, b"k" * 32, **options)


def ask_and_answer(guard: Challenger, now: float = 0.0, password: str = "secret", nc: int = 1, **challenge) -> str:
    chosen = strongest(parse_challenges(guard.challenge(now, **challenge)))
    return credentials(chosen, "alice", password, "INVITE", "sip:x", nc=nc, cnonce="c")


@pytest.mark.rfc(
    "8760",
    "2.3",
    "SHOULD",
    role="UAS",
    text="SHA-256 and MD5 challenges, the strongest first; right credentials are accepted",
)
def test_right_credentials_are_accepted_under_every_algorithm():
    for algorithm in ("MD5", "SHA-256", "SHA-512-256"):
        guard = challenger(algorithms=(algorithm,))
        assert guard.check([ask_and_answer(guard)], "INVITE", 1.0) == Check(Outcome.OK, "alice")


@pytest.mark.rfc("3261", "22.1", "MUST", role="UAS", text="missing or wrong credentials are refused")
def test_wrong_or_missing_credentials_are_not():
    guard = challenger()
    assert guard.check([], "INVITE", 0.0).outcome is Outcome.MISSING
    assert guard.check(['Digest realm="elsewhere", nonce="x"'], "INVITE", 0.0).outcome is Outcome.MISSING
    assert guard.check(["???"], "INVITE", 0.0).outcome is Outcome.MISSING
    assert guard.check(['Digest realm="here", nonce="x"'], "INVITE", 0.0).outcome is Outcome.MALFORMED
    assert guard.check([ask_and_answer(guard, password="guess")], "INVITE", 0.0).outcome is Outcome.WRONG
    assert guard.check([ask_and_answer(guard)], "BYE", 0.0).outcome is Outcome.WRONG
    mallory = ask_and_answer(guard).replace("alice", "mallory")
    assert guard.check([mallory], "INVITE", 0.0).outcome is Outcome.WRONG


def test_a_user_without_an_account_has_no_password_not_an_empty_one():
    guard = Challenger("here", lambda name: None, b"k" * 32)
    assert guard.check([ask_and_answer(guard, password="")], "INVITE", 0.0).outcome is Outcome.WRONG


def test_a_weaker_algorithm_than_asked_for_is_refused():
    guard = challenger(algorithms=("SHA-256",))
    [challenge] = parse_challenges(guard.challenge(0.0))
    weak = Challenge("here", challenge.nonce, "MD5", ("auth",))
    value = credentials(weak, "alice", "secret", "INVITE", "sip:x", cnonce="c")
    assert guard.check([value], "INVITE", 0.0).outcome is Outcome.WRONG


@pytest.mark.rfc("7616", "3.3", "SHOULD", role="UAS", text="a nonce that ran out is stale")
def test_a_nonce_runs_out_and_a_strange_one_is_stale():
    guard = challenger(nonce_life_s=10.0)
    value = ask_and_answer(guard, now=100.0)
    assert guard.check([value], "INVITE", 111.0).outcome is Outcome.STALE
    assert guard.check([value], "INVITE", 109.0).outcome is Outcome.OK
    strange = Challenger("here", {"alice": "secret"}.get, b"other" * 8)
    assert strange.check([value], "INVITE", 100.0).outcome is Outcome.STALE
    assert parse_challenges(guard.challenge(0.0, stale=True))[0].stale


@pytest.mark.rfc("7616", "5.12", "SHOULD", role="UAS", text="a replayed count is refused")
def test_a_count_is_good_for_one_request_only():
    guard = challenger()
    chosen = strongest(parse_challenges(guard.challenge(0.0)))

    def check(nc: int) -> Outcome:
        value = credentials(chosen, "alice", "secret", "INVITE", "sip:x", nc=nc, cnonce="c")
        return guard.check([value], "INVITE", 1.0).outcome

    counts = [check(nc) for nc in (1, 1, 2, 5, 4, 6)]
    assert counts == [Outcome.OK, Outcome.REPLAYED, Outcome.OK, Outcome.OK, Outcome.REPLAYED, Outcome.OK]


def test_the_table_of_nonces_is_bounded_and_forgetting_does_not_open_a_door():
    guard = challenger(max_nonces=3)
    values = [ask_and_answer(guard, now=float(i)) for i in range(10)]
    assert all(guard.check([value], "INVITE", 10.0).outcome is Outcome.OK for value in values)
    outcomes = {guard.check([value], "INVITE", 10.0).outcome for value in values}
    assert outcomes == {Outcome.STALE, Outcome.REPLAYED}
