"""The gate: trunks by address, strangers by rate, scanners not at all, and limits before anything is parsed."""

from collections import Counter

import pytest

from sipagent.errors import ConfigError
from sipagent.sip.drop_log import DropLog
from sipagent.sip.guard import SCANNERS, Action, Guard, GuardLimits

INVITE = b"INVITE sip:100@x SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1\r\nUser-Agent: Phone 1.0\r\n\r\n"
STRANGER = "203.0.113.9"


def guard(**options) -> Guard:
    trunks = options.pop("trunks", {"carrier": ["198.51.100.0/24", "2001:db8::/32"], "pbx": ["198.51.100.7"]})
    limits = GuardLimits(**options.pop("limits", {}))
    return Guard(trunks, limits=limits, **options)


def request(*lines: str, body: bytes = b"") -> bytes:
    return ("\r\n".join(["OPTIONS sip:x SIP/2.0", *lines, "", ""])).encode() + body


# ---- trunks


@pytest.mark.rfc(
    "3325", "5", "MUST", role="UAS", text="asserted identities are believed by source address: it names the trunk"
)
@pytest.mark.parametrize(
    ("address", "trunk"),
    [
        ("198.51.100.200", "carrier"),
        ("198.51.100.7", "pbx"),  # the narrowest network wins
        ("2001:db8::5", "carrier"),
        ("::ffff:198.51.100.200", "carrier"),
        (STRANGER, ""),
        ("fe80::1%eth0", ""),
        ("not an address", ""),
    ],
)
def test_a_source_belongs_to_the_trunk_whose_network_holds_it(address, trunk):
    ours = guard()
    assert ours.trunk_of(address) == trunk
    assert ours.trunk_of(address) == trunk  # and so from memory
    assert ours.admit(address).trunk == trunk


def test_strangers_may_begin_nothing_unless_they_are_welcome():
    assert guard().admit(STRANGER).action is Action.PASS
    refused = guard(accept_unknown=False).admit(STRANGER)
    assert (refused.action, refused.reason) == (Action.DROP, "not_allowed")
    assert guard(accept_unknown=False).admit("198.51.100.7").action is Action.PASS


def test_networks_can_change_while_we_run():
    ours = guard(accept_unknown=False)
    ours.admit(STRANGER)
    ours.set_networks("carrier", [STRANGER])
    assert ours.admit(STRANGER).trunk == "carrier"
    assert ours.admit("198.51.100.200").action is Action.DROP


def test_a_network_that_is_none_names_the_field():
    with pytest.raises(ConfigError, match=r"trunk\.a\.allow"):
        Guard({"a": ["carrier.example"]})


# ---- limits


@pytest.mark.rfc("3261", "26.3.2.4", "SHOULD", role="UAS", text="messages beyond the limits are stopped unparsed")
def test_messages_beyond_the_limits_are_stopped_unparsed():
    cases = {
        "too_large": request(body=b"x" * 65_536),
        "too_many_headers": request(*["X: y"] * 300),
        "too_deep": request("Content-Type: multipart/mixed", body=b"Content-Type: multipart/mixed\r\n" * 4),
    }
    for reason, data in cases.items():
        decision = guard().screen(data, STRANGER, 0.0)
        assert (decision.action, decision.reason) == (Action.DROP, reason)
        decision = guard().screen(data, "198.51.100.7", 0.0)
        assert (decision.action, decision.reason, decision.status) == (Action.REFUSE, reason, 513)
    long_header = request("X: " + "y" * 40_000)
    assert guard().screen(long_header, STRANGER, 0.0).reason == "too_many_headers"
    assert guard().screen(request(*["X: y"] * 250, body=b"\n" * 1000), STRANGER, 0.0).action is Action.PASS


# ---- scanners


@pytest.mark.rfc("3261", "26.3.2.4", "SHOULD", role="UAS", text="known scanners get no answer")
@pytest.mark.parametrize("name", SCANNERS)
def test_every_known_scanner_is_met_with_silence(name):
    decision = guard().screen(request(f"user-agent : {name.upper()}/1.0"), STRANGER, 0.0)
    assert (decision.action, decision.reason) == (Action.DROP, "scanner")


@pytest.mark.parametrize(
    "agent", ["Asterisk PBX 22", "sipp", "sipsak 0.9.8", "baresip v1.0", "osipclient", "Linphonec/5"]
)
def test_honest_programs_pass(agent):
    assert guard().screen(request(f"User-Agent: {agent}"), STRANGER, 0.0).action is Action.PASS


def test_a_name_outside_of_the_program_headers_does_not_matter():
    assert guard().screen(request("Subject: friendly-scanner"), STRANGER, 0.0).action is Action.PASS


def test_a_scanner_is_not_heard_for_a_while_whatever_it_calls_itself_then():
    ours = guard()
    ours.screen(request("User-Agent: friendly-scanner"), STRANGER, 0.0)
    assert ours.screen(INVITE, STRANGER, 59.0).reason == "banned"
    assert ours.screen(INVITE, STRANGER, 61.0).action is Action.PASS
    assert ours.screen(INVITE, "203.0.113.10", 1.0).action is Action.PASS


def test_a_trunk_is_never_taken_for_a_scanner():
    assert guard().screen(request("User-Agent: sipvicious"), "198.51.100.7", 0.0).action is Action.PASS


# ---- rates


@pytest.mark.rfc("3261", "26.3.2.4", "SHOULD", role="UAS", text="a stranger's requests are limited in rate")
def test_a_stranger_has_a_burst_and_then_a_rate():
    ours = guard(limits={"source_rate": 10.0, "source_burst": 5.0})
    first = [ours.screen(INVITE, STRANGER, 0.0).action for _ in range(8)]
    assert first == [Action.PASS] * 5 + [Action.DROP] * 3
    assert ours.screen(INVITE, STRANGER, 0.05).reason == "rate_source"
    passed = sum(ours.screen(INVITE, STRANGER, 1.0 + n * 0.01).action is Action.PASS for n in range(1000))
    assert 95 <= passed <= 110


@pytest.mark.rfc("3261", "26.3.2.4", "SHOULD", role="UAS", text="forged sources share one rate; the table is bounded")
def test_many_strangers_share_one_rate_so_that_forged_sources_gain_nothing():
    ours = guard(limits={"strangers_rate": 100.0, "strangers_burst": 50.0, "sources": 100})
    decisions = [ours.screen(INVITE, f"203.0.{n // 250}.{n % 250}", n * 0.001) for n in range(10_000)]
    passed = sum(decision.action is Action.PASS for decision in decisions)
    assert 1000 <= passed <= 1060
    assert ours.sources == 100


def test_trunks_and_responses_are_not_limited():
    ours = guard(limits={"source_rate": 1.0, "source_burst": 1.0})
    assert all(ours.screen(INVITE, "198.51.100.7", 0.0).action is Action.PASS for _ in range(1000))
    assert all(ours.screen(b"SIP/2.0 200 OK\r\n\r\n", STRANGER, 0.0).action is Action.PASS for _ in range(1000))


def test_what_is_dropped_is_told_at_once_and_then_seldom_with_its_number():
    stats: Counter[str] = Counter()
    told: list[tuple[str, str, int]] = []
    log = DropLog(stats, lambda *what: told.append(what))
    log.look("192.0.2.1", 0.0)
    assert told == [], "nothing was dropped"
    for number in range(1000):
        stats["malformed"] += 1
        log.look("192.0.2.1", number / 100)
    assert told == [("malformed", "192.0.2.1", 0)]
    stats["strangers"] += 1
    stats["malformed"] += 1
    log.look("192.0.2.2", 10.0)
    assert told[1:] == [("malformed", "192.0.2.2", 999), ("strangers", "192.0.2.2", 0)]
