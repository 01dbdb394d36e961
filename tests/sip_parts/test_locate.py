"""Finding the far end (RFC 3263) with a name server made of a dictionary."""

import asyncio
import collections
import random

import dns.asyncresolver
import dns.message
import dns.rcode
import dns.rrset
import pytest

from sipagent.errors import ParseError
from sipagent.sip.locate import Locator, Target, by_priority
from sipagent.sip.resolver import Cache, DnsResolver, Naptr, Records, ResolveError, Srv, read_hosts


class Zone:
    """A resolver whose answers stand in a dictionary; `down` makes every question fail."""

    def __init__(self, records, ttl_s: float = 300.0) -> None:
        self.records, self.ttl_s, self.down = records, ttl_s, False
        self.asked: list[tuple[str, str]] = []

    async def query(self, name: str, kind: str) -> Records:
        self.asked.append((name, kind))
        if self.down:
            raise ResolveError(f"{kind} {name}")
        found = self.records.get((name, kind))
        return Records(tuple(found), self.ttl_s) if found else Records()


FULL = {
    ("example.com", "NAPTR"): [
        Naptr(90, 50, "s", "SIP+D2T", "_sip._tcp.example.com"),
        Naptr(50, 50, "s", "SIPS+D2T", "_sips._tcp.example.com"),
        Naptr(100, 50, "s", "SIP+D2U", "_sip._udp.example.com"),
        Naptr(10, 50, "u", "E2U+sip", ""),
    ],
    ("_sips._tcp.example.com", "SRV"): [Srv(0, 1, 5061, "server1.example.com")],
    ("_sip._tcp.example.com", "SRV"): [Srv(0, 1, 5060, "server1.example.com"), Srv(1, 1, 5070, "server2.example.com")],
    ("_sip._udp.example.com", "SRV"): [Srv(0, 1, 5060, "server1.example.com")],
    ("server1.example.com", "A"): ["192.0.2.1"],
    ("server1.example.com", "AAAA"): ["2001:db8::1"],
    ("server2.example.com", "A"): ["192.0.2.2"],
    ("example.com", "A"): ["192.0.2.9"],
}


async def locate(uri: str, records=None, now: float = 0.0, **options) -> list[tuple[str, str, int]]:
    locator = Locator(Zone(FULL if records is None else records), random.Random(1), **options)
    return [(target.protocol, target.address, target.port) for target in await locator.locate(uri, now)]


@pytest.mark.rfc("3263", "4.1", "MUST", role="UAC", text="a numeric host needs no lookup; sips means TLS, sip UDP")
@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sip:192.0.2.7", ("UDP", "192.0.2.7", 5060)),
        ("sip:alice@192.0.2.7:5080;transport=tcp", ("TCP", "192.0.2.7", 5080)),
        ("sips:192.0.2.7", ("TLS", "192.0.2.7", 5061)),
        ("sips:192.0.2.7:7000;transport=tcp", ("TLS", "192.0.2.7", 7000)),
        ("sip:192.0.2.7;transport=TLS", ("TLS", "192.0.2.7", 5061)),
        ("sip:[2001:db8::7]:5062", ("UDP", "2001:db8::7", 5062)),
        ("sip:example.com;maddr=192.0.2.8", ("UDP", "192.0.2.8", 5060)),
    ],
)
async def test_a_numeric_host_needs_no_name_server(uri, expected):
    assert await locate(uri, {}) == [expected]


@pytest.mark.rfc("3263", "4.2", "MUST", role="UAC", text="a port in the URI skips SRV")
async def test_a_port_skips_services():
    assert await locate("sip:server2.example.com:5099") == [("UDP", "192.0.2.2", 5099)]
    assert await locate("sip:server2.example.com:5099;transport=tcp") == [("TCP", "192.0.2.2", 5099)]


@pytest.mark.rfc("3263", "4.1", "SHOULD", role="UAC", text="NAPTR chooses the transport, SRV the servers")
async def test_naptr_orders_the_transports_and_srv_the_servers():
    assert await locate("sip:example.com", families=(4,)) == [
        ("TLS", "192.0.2.1", 5061),
        ("TCP", "192.0.2.1", 5060),
        ("TCP", "192.0.2.2", 5070),
        ("UDP", "192.0.2.1", 5060),
    ]


@pytest.mark.rfc("3263", "4.1", "MUST", role="UAC", text="only transports and address families that we have are used")
async def test_only_transports_and_families_that_we_have_are_used():
    assert await locate("sip:example.com", protocols=("UDP",)) == [
        ("UDP", "192.0.2.1", 5060),
        ("UDP", "2001:db8::1", 5060),
    ]
    assert await locate("sip:example.com;transport=tls", protocols=("UDP",)) == []
    assert await locate("sip:[2001:db8::7]", families=(4,)) == []


async def test_sips_takes_nothing_but_tls():
    assert await locate("sips:example.com", families=(4,)) == [("TLS", "192.0.2.1", 5061)]


async def test_a_transport_parameter_goes_straight_to_its_srv_records():
    zone = Zone(FULL)
    found = await Locator(zone, random.Random(1), families=(4,)).locate("sip:example.com;transport=tcp", 0.0)
    assert [target.port for target in found] == [5060, 5070]
    assert ("example.com", "NAPTR") not in zone.asked


@pytest.mark.rfc("3263", "4.1", "SHOULD", role="UAC", text="without NAPTR the SRV names are asked")
async def test_without_naptr_the_srv_names_are_tried_and_tls_is_not_guessed():
    records = {key: value for key, value in FULL.items() if key[1] != "NAPTR"}
    assert await locate("sip:example.com", records, families=(4,)) == [
        ("UDP", "192.0.2.1", 5060),
        ("TCP", "192.0.2.1", 5060),
        ("TCP", "192.0.2.2", 5070),
    ]


@pytest.mark.rfc("3263", "4.2", "MUST", role="UAC", text="without SRV the host itself is called")
async def test_without_any_service_the_host_itself_is_called():
    records = {("example.com", "A"): ["192.0.2.9", "192.0.2.10"]}
    assert await locate("sip:example.com", records) == [("UDP", "192.0.2.9", 5060), ("UDP", "192.0.2.10", 5060)]
    assert await locate("sips:example.com", records, families=(4,)) == [
        ("TLS", "192.0.2.9", 5061),
        ("TLS", "192.0.2.10", 5061),
    ]
    assert await locate("sip:nowhere.example") == []


async def test_a_service_that_is_declared_absent_falls_back_to_the_host():
    records = {("_sip._udp.example.com", "SRV"): [Srv(0, 0, 0, "")], ("example.com", "A"): ["192.0.2.9"]}
    assert await locate("sip:example.com", records) == [("UDP", "192.0.2.9", 5060)]


@pytest.mark.rfc(
    "5922", "7.2", "MUST", role="UAC", text="the certificate is checked against the URI's domain, not the SRV target"
)
async def test_the_domain_for_the_certificate_is_the_one_of_the_uri():
    found = await Locator(Zone(FULL), random.Random(1)).locate("sips:example.com", 0.0)
    assert {target.domain for target in found} == {"example.com"}


@pytest.mark.parametrize("uri", ["tel:+15551234", "http://x", "sip:x;transport=sctp", "sips:x;transport=udp", ""])
async def test_what_cannot_be_reached_by_sip_is_refused(uri):
    with pytest.raises(ParseError):
        await locate(uri)


# ---- SRV


@pytest.mark.rfc("2782", "3", "SHOULD", role="UAC", text="servers of one priority are drawn by weight")
def test_servers_of_one_priority_are_drawn_by_their_weights():
    records = [Srv(1, 60, 1, "a"), Srv(1, 30, 2, "b"), Srv(1, 10, 3, "c"), Srv(0, 0, 4, "first"), Srv(2, 0, 5, "last")]
    rng = random.Random(42)
    firsts = collections.Counter()
    for _ in range(3000):
        order = [record.target for record in by_priority(records, rng)]
        assert (order[0], order[-1], len(order)) == ("first", "last", 5)
        firsts[order[1]] += 1
    assert 0.55 < firsts["a"] / 3000 < 0.65
    assert 0.25 < firsts["b"] / 3000 < 0.35
    assert 0.06 < firsts["c"] / 3000 < 0.14


# ---- failures, cache


@pytest.mark.rfc("3263", "4.3", "SHOULD", role="UAC", text="a failed target comes last for 30 s")
async def test_a_failed_target_comes_last_for_30_seconds_and_is_still_there_when_all_failed():
    locator = Locator(Zone({("example.com", "A"): ["192.0.2.1", "192.0.2.2"]}), random.Random(1))
    one, two = await locator.locate("sip:example.com", 0.0)
    locator.failed(one, 0.0)
    assert await locator.locate("sip:example.com", 29.0) == (two, one)
    assert await locator.locate("sip:example.com", 31.0) == (one, two)
    locator.failed(one, 40.0)
    locator.failed(two, 40.0)
    assert await locator.locate("sip:example.com", 41.0) == (one, two)
    locator.succeeded(two)
    assert await locator.locate("sip:example.com", 41.0) == (two, one)


def test_only_so_many_failures_are_remembered():
    locator = Locator(Zone({}), random.Random(1))
    for number in range(2000):
        locator.failed(Target("UDP", "192.0.2.1", number, "x"), float(number))
    assert len(locator._failed) == 1024
    assert Target("UDP", "192.0.2.1", 1999, "x") in locator._failed


@pytest.mark.rfc("1035", "3.2.1", "MUST", role="UAC", text="records live as long as their TTL")
async def test_answers_live_as_long_as_they_say():
    zone = Zone({("example.com", "A"): ["192.0.2.1"]}, ttl_s=60.0)
    locator = Locator(zone, random.Random(1), families=(4,))
    await locator.locate("sip:example.com:5060", 0.0)
    await locator.locate("sip:example.com:5060", 59.0)
    assert len(zone.asked) == 1
    zone.records[("example.com", "A")] = ["192.0.2.2"]
    [target] = await locator.locate("sip:example.com:5060", 61.0)
    assert target == Target("UDP", "192.0.2.2", 5060, "example.com")


async def test_names_that_do_not_exist_are_remembered_for_half_a_minute():
    zone = Zone({})
    cache = Cache(zone)
    for now in (0.0, 29.0, 31.0):
        assert await cache.query("nowhere.example", "A", now) == ()
    assert len(zone.asked) == 2


async def test_while_no_name_server_answers_old_records_serve_for_an_hour():
    zone = Zone({("example.com", "A"): ["192.0.2.1"]}, ttl_s=60.0)
    locator = Locator(zone, random.Random(1), families=(4,))
    await locator.locate("sip:example.com:5060", 0.0)
    zone.down = True
    assert len(await locator.locate("sip:example.com:5060", 3000.0)) == 1
    with pytest.raises(ResolveError):
        await locator.locate("sip:example.com:5060", 4000.0)


async def test_the_cache_is_bounded():
    cache = Cache(Zone({}))
    for number in range(2000):
        await cache.query(f"{number}.example", "A", 0.0)
    assert len(cache._entries) == 1024


# ---- the real resolver, without a network of others


async def test_the_hosts_file_comes_first(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost pbx # ours\n::1 LocalHost\n# 1.1.1.1 no\nrubbish here\n\n")
    hosts = read_hosts(path)
    assert hosts == {"localhost": ("127.0.0.1", "::1"), "pbx": ("127.0.0.1",)}
    assert read_hosts(tmp_path / "absent") == {}
    resolver = DnsResolver(hosts)
    assert (await resolver.query("LOCALHOST", "AAAA")).records == ("::1",)
    assert (await resolver.query("pbx", "AAAA")).records == ()


class NameServer(asyncio.DatagramProtocol):
    """Answers over loopback from zone lines, or refuses; `mute` keeps silent."""

    LINES = (
        'trunk.test. 120 IN NAPTR 10 20 "s" "SIP+D2U" "" _sip._udp.trunk.test.',
        'regex.test. 120 IN NAPTR 10 20 "u" "E2U+sip" "!^.*$!sip:x@y!" .',
        "_sip._udp.trunk.test. 120 IN SRV 1 2 5070 host.trunk.test.",
        "host.trunk.test. 60 IN A 192.0.2.5",
    )

    def __init__(self, mute: bool = False, rcode: int = dns.rcode.NOERROR) -> None:
        self.mute, self.rcode = mute, rcode

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data, address) -> None:
        if self.mute:
            return
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query)
        [question] = query.question
        rrsets = [dns.rrset.from_text(*line.split(" ", 3)[:3], *line.split(" ", 4)[3:]) for line in self.LINES]
        names = {rrset.name for rrset in rrsets}
        reply.answer = [r for r in rrsets if (r.name, r.rdtype) == (question.name, question.rdtype)]
        reply.set_rcode(self.rcode if self.rcode else 0 if question.name in names else dns.rcode.NXDOMAIN)
        self.transport.sendto(reply.to_wire(), address)


async def ask(questions, port: int, **server):
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: NameServer(**server), local_addr=("127.0.0.1", port))
    inner = dns.asyncresolver.Resolver(configure=False)
    inner.nameservers, inner.port = ["127.0.0.1"], port
    try:
        return [await DnsResolver(lifetime_s=0.3, resolver=inner).query(*question) for question in questions]
    finally:
        transport.close()


async def test_records_of_a_real_name_server_are_read_with_their_time_to_live():
    naptr, regex, srv, a, nothing, nobody = await ask(
        [("trunk.test", "NAPTR"), ("regex.test", "NAPTR"), ("_sip._udp.trunk.test", "SRV"), ("host.trunk.test", "A"),
         ("host.trunk.test", "AAAA"), ("nobody.test", "A")],
        28053,
    )  # fmt: skip
    assert naptr == Records((Naptr(10, 20, "s", "SIP+D2U", "_sip._udp.trunk.test"),), 120.0)
    assert regex.records == (Naptr(10, 20, "", "E2U+sip", ""),)
    assert srv == Records((Srv(1, 2, 5070, "host.trunk.test"),), 120.0)
    assert a == Records(("192.0.2.5",), 60.0)
    assert nothing == nobody == Records()


@pytest.mark.parametrize("server", [{"mute": True}, {"rcode": dns.rcode.SERVFAIL}])
async def test_a_name_server_that_fails_is_an_error_and_not_an_empty_answer(server):
    with pytest.raises(ResolveError, match="host"):
        await ask([("host.trunk.test", "A")], 28054, **server)
