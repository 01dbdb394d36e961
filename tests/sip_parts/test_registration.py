"""A registration through good times and bad ones, in virtual time."""

import itertools
import random

import pytest

from sipagent.sip.challenger import Challenger, Outcome
from sipagent.sip.digest import Account, Authentication
from sipagent.sip.engine import RegistrationChanged, RegistrationState
from sipagent.sip.registration import Phase, Registration, RegistrationSettings, SendRegister, with_address

CONTACT = "sip:alice@10.0.0.2:5060"
MD5 = ("WWW-Authenticate", 'Digest realm="r", nonce="one", qop="auth"')


def machine(password: str = "secret", seed: int = 1, **options) -> Registration:
    settings = RegistrationSettings("trunk", "sip:r.example", CONTACT, **options)
    return Registration(settings, Authentication(Account("alice", password)), random.Random(seed))


def sent(registration: Registration) -> SendRegister:
    [request] = [item for item in registration.drain() if isinstance(item, SendRegister)]
    return request


def told(registration: Registration) -> list[RegistrationChanged]:
    return [item for item in registration.drain() if isinstance(item, RegistrationChanged)]


def grant(registration: Registration, now: float = 0.0, *headers: tuple[str, str]) -> None:
    request = sent(registration)
    registration.receive(request.cseq, 200, "OK", headers, now)


def registered(**options) -> Registration:
    registration = machine(**options)
    registration.start(0.0)
    grant(registration, 0.0)
    registration.drain()
    return registration


@pytest.mark.rfc("3261", "10.2.1", "MUST", role="UAC", text="REGISTER names one Contact and the wished expiry")
def test_the_first_request_asks_for_our_contact_and_expiry():
    registration = machine(expires_s=600)
    registration.start(0.0)
    changed, request = registration.drain()
    assert changed.state is RegistrationState.REGISTERING
    assert request == SendRegister(1, "sip:r.example", ((CONTACT, 600),), 600)


@pytest.mark.rfc("3261", "10.2.4", "SHOULD", role="UAC", text="the refresh comes at 50 to 90 % of the granted time")
@pytest.mark.parametrize("granted", [20, 60, 120, 300, 3600])
def test_the_refresh_comes_between_half_and_nine_tenths_of_the_granted_time(granted):
    delays = set()
    for seed in range(40):
        registration = machine(seed=seed)
        registration.start(100.0)
        grant(registration, 100.0, ("Contact", f"<{CONTACT}>;expires={granted}"))
        assert told(registration)[-1].expires_s == granted
        delay = registration.deadline - 100.0
        assert 0.5 * granted <= delay <= 0.9 * granted
        assert granted - delay >= min(32.0, 0.5 * granted)  # room for a refresh that gets no answer
        delays.add(delay)
        registration.on_deadline(registration.deadline - 0.001)
        assert registration.drain() == []
        registration.on_deadline(registration.deadline)
        assert sent(registration).cseq == 2
    assert len(delays) == 40 or granted == 60 or granted == 20


@pytest.mark.rfc(
    "3261", "10.2.4", "MUST", role="UAC", text="the expiry that counts is that of our own Contact in the 2xx"
)
@pytest.mark.parametrize(
    ("headers", "granted"),
    [
        ((), 300),
        ((("Expires", "90"),), 90),
        ((("Contact", f"<{CONTACT}>;expires=80"), ("Expires", "90")), 80),
        ((("Contact", f"<{CONTACT}>"), ("Expires", "90")), 90),
        ((("contact", f"<sip:bob@x>;expires=5, <{CONTACT};ob>;expires=70"),), 70),
        ((("Contact", "<sip:alice@192.0.2.9:1024>;expires=60"),), 60),
        ((("Contact", "<sip:bob@x>;expires=5"), ("Expires", "90")), 90),
        ((("Contact", "garbage"), ("Expires", "90 (a comment)")), 90),
    ],
)
def test_the_granted_time_is_that_of_our_own_binding(headers, granted):
    registration = machine()
    registration.start(0.0)
    grant(registration, 0.0, *headers)
    assert registration.current.expires_s == granted


def test_a_refresh_is_silent_and_a_change_is_told():
    registration = registered()
    registration.on_deadline(registration.deadline)
    grant(registration, 200.0)
    assert registration.drain() == []
    assert registration.current.state is RegistrationState.REGISTERED


# ---- challenges


@pytest.mark.parametrize(("info", "wrong"), [(f'rspauth="{"0" * 32}"', True), ('nextnonce="two"', False)])
def test_a_registrar_that_cannot_prove_that_it_knows_the_password_is_told_as_such(info, wrong):
    registration = machine()
    registration.start(0.0)
    registration.receive(sent(registration).cseq, 401, "Unauthorized", (MD5,), 0.1)
    grant(registration, 0.2, ("Authentication-Info", info))
    assert ("rspauth is wrong" in told(registration)[-1].reason) is wrong


def test_a_challenge_is_answered_at_once_and_later_requests_carry_credentials():
    registration = machine()
    registration.start(0.0)
    registration.receive(sent(registration).cseq, 401, "Unauthorized", (MD5,), 0.1)
    request = sent(registration)
    assert "nc=00000001" in dict(request.headers)["Authorization"]
    registration.receive(request.cseq, 200, "OK", (), 0.2)
    registration.drain()
    registration.on_deadline(registration.deadline)
    assert "nc=00000002" in dict(sent(registration).headers)["Authorization"]


@pytest.mark.rfc("3261", "22.1", "SHOULD", role="UAC", text="a wrong password is tried at most once in 30 s")
def test_a_wrong_password_is_tried_at_most_once_in_30_seconds():
    registration = machine()
    now, tried = 0.0, []
    registration.start(now)
    for _ in range(20):
        for item in registration.drain():
            if isinstance(item, SendRegister):
                if item.headers:
                    tried.append(now)
                registration.receive(item.cseq, 401, "Unauthorized", (MD5,), now)
        if registration.phase is Phase.WAITING:
            assert registration.current.state is RegistrationState.REFUSED
            assert "wrong_password" in registration.current.reason
            now = registration.deadline
            registration.on_deadline(now)
    gaps = [b - a for a, b in itertools.pairwise(tried)]
    assert len(gaps) >= 5
    assert min(gaps) >= 30.0
    assert max(gaps) <= 1800.0


def test_a_stale_nonce_is_renewed_within_the_attempt():
    registration = machine()
    registration.start(0.0)
    registration.receive(sent(registration).cseq, 401, "Unauthorized", (MD5,), 0.0)
    stale = (MD5[0], MD5[1].replace("one", "two") + ", stale=true")
    registration.receive(sent(registration).cseq, 401, "Unauthorized", (stale,), 0.0)
    assert 'nonce="two"' in dict(sent(registration).headers)["Authorization"]


def test_a_registrar_that_challenges_for_ever_is_left_alone():
    registration = machine()
    registration.start(0.0)
    count = 0
    while registration.phase is Phase.TRYING:
        count += 1
        challenge = ("Proxy-Authenticate", f'Digest realm="{count}", nonce="n"')
        registration.receive(sent(registration).cseq, 407, "Proxy Authentication Required", (challenge,), 0.0)
    assert count == 4
    assert registration.deadline >= 30.0


def test_without_credentials_a_challenge_is_a_refusal():
    settings = RegistrationSettings("trunk", "sip:r.example", CONTACT)
    registration = Registration(settings, Authentication(Account("", "")), random.Random(1))
    registration.start(0.0)
    registration.receive(sent(registration).cseq, 401, "Unauthorized", (MD5,), 0.0)
    assert told(registration)[-1].state is RegistrationState.REFUSED


# ---- refusals and silence


@pytest.mark.rfc("3261", "10.2.8", "SHOULD", role="UAC", text="423 raises the expiry to Min-Expires")
def test_423_raises_the_expiry_to_what_the_registrar_wants():
    registration = machine(expires_s=60)
    registration.start(0.0)
    registration.receive(sent(registration).cseq, 423, "Interval Too Brief", (("Min-Expires", "1800"),), 0.0)
    request = sent(registration)
    assert (request.expires_s, request.contacts) == (1800, ((CONTACT, 1800),))
    registration.receive(request.cseq, 423, "Interval Too Brief", (("Min-Expires", "1800"),), 0.0)
    assert registration.phase is Phase.WAITING


@pytest.mark.parametrize("wanted", ["99999999999", "x", ""])
def test_a_senseless_423_is_a_refusal(wanted):
    registration = machine()
    registration.start(0.0)
    registration.receive(sent(registration).cseq, 423, "Interval Too Brief", (("Min-Expires", wanted),), 0.0)
    assert registration.phase is Phase.WAITING


@pytest.mark.rfc(
    "5626", "4.5", "MUST", role="UAC", text="the wait doubles from 30 s to 1800 s, each 50 to 100 % random"
)
@pytest.mark.parametrize(
    ("status", "state", "base"),
    [
        (403, RegistrationState.REFUSED, 300.0),
        (404, RegistrationState.REFUSED, 300.0),
        (603, RegistrationState.REFUSED, 300.0),
        (408, RegistrationState.UNREACHABLE, 30.0),
        (500, RegistrationState.UNREACHABLE, 30.0),
        (503, RegistrationState.UNREACHABLE, 30.0),
        (504, RegistrationState.UNREACHABLE, 30.0),
    ],
)
def test_the_wait_doubles_from_its_base_to_half_an_hour_and_is_half_random(status, state, base):
    registration = machine(seed=3)
    now = 0.0
    registration.start(now)
    for failure in range(12):
        registration.receive(sent(registration).cseq, status, "No", (), now)
        changed = told(registration)[-1]
        longest = min(1800.0, base * 2**failure)
        assert (changed.state, changed.status) == (state, status)
        assert 0.5 * longest <= changed.retry_in_s <= longest
        assert registration.deadline == now + changed.retry_in_s
        now = registration.deadline
        registration.on_deadline(now)
    grant(registration, now)
    registration.drain()
    registration.on_deadline(registration.deadline)
    registration.receive(sent(registration).cseq, status, "No", (), now)
    assert registration.current.retry_in_s <= base  # success forgets the failures


@pytest.mark.rfc("3261", "20.33", "SHOULD", role="UAC", text="Retry-After of a registrar is obeyed")
def test_retry_after_is_obeyed_within_reason_and_spread():
    waits = set()
    for seed in range(10):
        registration = machine(seed=seed)
        registration.start(0.0)
        registration.receive(sent(registration).cseq, 503, "Busy", (("Retry-After", "120 (soon);duration=5"),), 0.0)
        waits.add(registration.deadline)
    assert all(120.0 <= wait <= 132.0 for wait in waits)
    assert len(waits) == 10
    registration.on_deadline(registration.deadline)
    registration.receive(sent(registration).cseq, 503, "Busy", (("Retry-After", "4000000000"),), 0.0)
    assert registration.current.retry_in_s <= 1980.0


def test_silence_is_like_a_server_failure_even_when_nobody_reports_it():
    registration = machine()
    registration.start(0.0)
    cseq = sent(registration).cseq
    registration.timed_out(cseq, 32.0)
    assert registration.current.state is RegistrationState.UNREACHABLE
    registration.receive(cseq, 200, "OK", (), 33.0)  # too late
    assert registration.phase is Phase.WAITING
    registration.on_deadline(registration.deadline)
    registration.drain()
    registration.on_deadline(registration.deadline)
    assert (registration.phase, registration.current.status) == (Phase.WAITING, 408)


def test_a_failed_refresh_tells_how_long_the_binding_still_lasts():
    registration = registered()
    now = registration.deadline
    registration.on_deadline(now)
    registration.timed_out(sent(registration).cseq, now)
    assert told(registration)[-1].expires_s == pytest.approx(300.0 - now)


def test_no_time_granted_is_a_failure():
    registration = machine()
    registration.start(0.0)
    grant(registration, 0.0, ("Contact", f"<{CONTACT}>;expires=0"))
    assert registration.phase is Phase.WAITING
    assert registration.current.state is RegistrationState.UNREACHABLE


def test_provisional_and_old_answers_change_nothing():
    registration = machine()
    registration.start(0.0)
    cseq = sent(registration).cseq
    registration.receive(cseq, 100, "Trying", (), 0.0)
    registration.receive(cseq - 1, 200, "OK", (), 0.0)
    assert registration.phase is Phase.TRYING


def test_a_sign_of_life_ends_a_long_wait_for_silence_but_not_for_a_refusal():
    registration = machine()
    registration.start(0.0)
    registration.receive(sent(registration).cseq, 503, "Busy", (("Retry-After", "1800"),), 0.0)
    registration.reachable(100.0)
    assert 100.0 <= registration.deadline <= 105.0
    refused = machine()
    refused.start(0.0)
    refused.receive(sent(refused).cseq, 403, "Forbidden", (), 0.0)
    before = refused.deadline
    refused.reachable(1.0)
    assert refused.deadline == before


def test_a_broken_connection_is_bound_anew_within_two_seconds():
    registration = registered()
    registration.flow_failed(50.0)
    assert 50.0 <= registration.deadline <= 52.0


@pytest.mark.rfc("5626", "4.5", "SHOULD", role="UAC", text="fifty registrations come back spread over time")
def test_fifty_trunks_do_not_come_back_all_at_once():
    deadlines = []
    for seed in range(50):
        registration = machine(seed=seed)
        registration.start(0.0)
        registration.timed_out(sent(registration).cseq, 32.0)
        registration.on_deadline(registration.deadline)
        registration.timed_out(sent(registration).cseq, registration.deadline)
        deadlines.append(registration.current.retry_in_s)
    assert max(deadlines) - min(deadlines) >= 20.0


# ---- NAT, routes


@pytest.mark.rfc(
    "3581", "4", "SHOULD", role="UAC", text="the Contact follows received and rport of the registrar's answer"
)
def test_the_contact_follows_the_address_that_the_registrar_sees():
    registration = machine()
    registration.start(0.0)
    via = ("Via", "SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK1;received=203.0.113.5;rport=40001")
    grant(registration, 0.0, via)
    request = sent(registration)
    seen = "sip:alice@203.0.113.5:40001"
    assert request.contacts == ((seen, 300), (CONTACT, 0))
    registration.receive(request.cseq, 200, "OK", (via,), 0.1)
    assert (registration.contact, registration.phase) == (seen, Phase.HOLDING)
    registration.drain()
    registration.on_deadline(registration.deadline)
    assert sent(registration).contacts == ((seen, 300),)


def test_an_address_that_moves_all_the_time_does_not_make_us_register_all_the_time():
    registration = machine()
    registration.start(0.0)
    requests = 0
    while registration.phase is Phase.TRYING and requests < 50:
        requests += 1
        via = ("Via", f"SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK1;received=203.0.113.5;rport={40000 + requests}")
        grant(registration, 0.0, via)
    assert requests == 2
    assert registration.contact.endswith(":40002")


def test_the_contact_stays_when_told_or_when_the_registrar_does_not_say_all():
    for via, options in [
        ("SIP/2.0/UDP 10.0.0.2;received=203.0.113.5;rport=40001", {"rewrite_contact": False}),
        ("SIP/2.0/UDP 10.0.0.2;rport;branch=x", {}),
        ("SIP/2.0/UDP 10.0.0.2;received=203.0.113.5", {}),
        ("SIP/2.0/UDP 10.0.0.2;received=10.0.0.2;rport=5060", {}),
        ("garbage", {}),
    ]:
        registration = machine(**options)
        registration.start(0.0)
        grant(registration, 0.0, ("Via", via))
        assert (registration.contact, registration.phase) == (CONTACT, Phase.HOLDING)


def test_a_move_registers_the_new_contact_and_takes_back_the_old():
    registration = registered()
    registration.move("sip:alice@10.9.9.9:5060", 10.0)
    assert sent(registration).contacts == (("sip:alice@10.9.9.9:5060", 300), (CONTACT, 0))


def test_a_move_while_the_request_is_under_way_is_made_good_after_its_answer():
    registration = machine()
    registration.start(0.0)
    new = "sip:alice@10.9.9.9:5060"
    registration.move(new, 0.1)
    grant(registration, 0.2)
    assert sent(registration).contacts == ((new, 300), (CONTACT, 0))


def test_a_contact_that_was_never_bound_is_not_taken_back():
    registration = machine()
    registration.start(0.0)
    registration.move("sip:alice@10.9.9.9:5060", 0.1)
    registration.receive(sent(registration).cseq, 401, "Unauthorized", (MD5,), 0.2)
    assert sent(registration).contacts == (("sip:alice@10.9.9.9:5060", 300),)


def test_hosts_of_every_kind_are_replaced_in_a_uri():
    assert with_address("sip:a@[2001:db8::1]:5060;transport=tcp", "192.0.2.1", 7) == "sip:a@192.0.2.1:7;transport=tcp"
    assert with_address("sips:host", "2001:db8::2", 5061) == "sips:[2001:db8::2]:5061"
    assert with_address("sip:a@host;ob", "192.0.2.1", 9) == "sip:a@192.0.2.1:9;ob"


@pytest.mark.rfc("3608", "6.1", "MUST", role="UAC", text="Service-Route of the registrar is kept for later requests")
@pytest.mark.rfc("3327", "5.1", "SHOULD", role="UAC", text="Path is supported")
def test_service_route_and_path_are_kept():
    registration = machine()
    registration.start(0.0)
    grant(
        registration, 0.0,
        ("Service-Route", "<sip:p1.example;lr>, <sip:p2.example;lr>"), ("Path", "<sip:edge.example;lr>"),
        ("P-Associated-URI", "<sip:+15551234@r.example>"),
    )  # fmt: skip
    assert registration.service_route == ("<sip:p1.example;lr>", "<sip:p2.example;lr>")
    assert registration.path == ("<sip:edge.example;lr>",)
    assert registration.associated_uris == ("<sip:+15551234@r.example>",)


# ---- leaving


@pytest.mark.rfc("3261", "10.2.2", "MUST", role="UAC", text="un-registering asks for no time")
def test_unregistering_asks_for_no_time_and_ends_whatever_the_answer():
    for end in ("200", "503", "401", "silence"):
        registration = registered()
        registration.unregister(10.0)
        request = sent(registration)
        assert (request.expires_s, request.contacts) == (0, ((CONTACT, 0),))
        if end == "401":
            registration.receive(request.cseq, 401, "Unauthorized", (MD5,), 10.0)
            request = sent(registration)
            registration.receive(request.cseq, 401, "Unauthorized", (MD5,), 10.0)
        elif end == "silence":
            registration.timed_out(request.cseq, 42.0)
        else:
            registration.receive(request.cseq, int(end), "", (), 10.0)
        assert told(registration)[-1].state is RegistrationState.UNREGISTERED
        assert (registration.phase, registration.deadline) == (Phase.GONE, None)
        registration.start(100.0)
        assert sent(registration).expires_s == 300


def test_what_never_began_is_gone_at_once():
    registration = machine()
    registration.unregister(0.0)
    assert registration.phase is Phase.GONE
    assert registration.drain()[-1].state is RegistrationState.UNREGISTERED


# ---- a thousand refreshes


@pytest.mark.rfc(
    "3261",
    "10.2",
    "MUST",
    role="UAC",
    text="a thousand refreshes through refusals, silence and new nonces never lapse for longer than one retry",
)
def test_a_thousand_refreshes_through_refusals_silence_and_new_nonces_never_lapse_for_longer_than_one_retry():
    rng = random.Random(7)
    challenger = Challenger("r", {"alice": "secret"}.get, b"k" * 32, nonce_life_s=600.0)
    registration = machine(seed=7)
    now = bound_until = 0.0
    refreshes = failures = 0
    longest_lapse = longest_wait = 0.0
    registration.start(now)
    while refreshes < 1000:
        for item in registration.drain():
            if not isinstance(item, SendRegister):
                continue
            fate = rng.random()
            if fate < 0.05:
                registration.timed_out(item.cseq, now + 32.0)
                failures += 1
            elif fate < 0.08:
                registration.receive(item.cseq, 503, "Busy", (("Retry-After", "40"),), now)
                failures += 1
            elif fate < 0.09:
                registration.receive(item.cseq, 403, "Forbidden", (), now)
                failures += 1
            elif fate < 0.10 and item.expires_s < 900:
                registration.receive(item.cseq, 423, "Brief", (("Min-Expires", str(item.expires_s + 100)),), now)
            else:
                check = challenger.check([value for _, value in item.headers], "REGISTER", now)
                if check.outcome is Outcome.OK:
                    longest_lapse = max(longest_lapse, now - bound_until if refreshes else 0.0)
                    bound_until = now + item.expires_s
                    refreshes += 1
                    registration.receive(item.cseq, 200, "OK", (("Expires", str(item.expires_s)),), now)
                else:
                    assert check.outcome in (Outcome.MISSING, Outcome.STALE)
                    values = challenger.challenge(now, stale=check.outcome is Outcome.STALE)
                    headers = tuple(("WWW-Authenticate", value) for value in values)
                    registration.receive(item.cseq, 401, "Unauthorized", headers, now)
        if registration.phase is Phase.WAITING:
            longest_wait = max(longest_wait, registration.current.retry_in_s)
        assert registration.deadline is not None
        if registration.phase is not Phase.TRYING or registration.deadline > now:
            now = max(now, registration.deadline)
            registration.on_deadline(now)
    assert failures > 50
    assert now > 1000 * 150
    assert longest_lapse <= longest_wait
