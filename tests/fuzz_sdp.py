"""Mutation fuzzing of session descriptions: `python -m tests.fuzz_sdp N [--seed S] [--json]`.

Real descriptions of phones, trunks and browsers are broken in N ways (bits, numbers, lines, pieces of each other) and
go through everything that a call does with them: parse, serialize, answer, accept_answer. Only the declared errors may
come out, what was parsed must survive a round trip, and an answer must keep the rules of RFC 3264.
"""

import argparse
import gc
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from sipagent.errors import ParseError
from sipagent.sdp.description import SessionDescription, parse, serialize
from sipagent.sdp.negotiated import MediaPolicy, NoCommonCodec, Srtp
from sipagent.sdp.offer_answer import accept_answer, answer, make_offer

_HEAD = b"v=0\r\no=- 20518 0 IN IP4 203.0.113.1\r\ns=-\r\nc=IN IP4 203.0.113.1\r\nt=0 0\r\n"
_KEY = b"WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
SEEDS = (
    _HEAD + b"m=audio 54400 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n",
    _HEAD
    + b"m=audio 54400 RTP/AVP 9 0 13\r\na=rtpmap:9 G722/8000\r\na=sendonly\r\na=rtcp:54401 IN IP4 203.0.113.1\r\n",
    _HEAD
    + b"m=audio 54400 RTP/SAVP 8\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"
    + _KEY
    + b"|2^20\r\na=rtcp-mux\r\n",
    _HEAD + b"m=audio 0 RTP/AVP 0\r\nm=audio 4000 RTP/AVP 3 8\r\nm=video 5000 RTP/AVP 31\r\na=inactive\r\n",
    b"v=0\r\no=a 1 1 IN IP6 2001:db8::1\r\ns= \r\nc=IN IP6 2001:db8::1\r\nb=AS:64\r\nt=1 2\r\nr=7d 1h 0\r\n"
    b"k=clear:x\r\na=sendrecv\r\nm=audio 4000 RTP/AVPF 111 96\r\na=rtpmap:111 opus/48000/2\r\n"
    b"a=rtpmap:96 PCMA/8000/1\r\na=maxptime:60\r\n",
    b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\n"
    b"c=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:x\r\na=mid:0\r\na=setup:actpass\r\n",
    _HEAD + b"m=image 4000 udptl t38\r\na=T38FaxVersion:0\r\nm=message 7000 TCP/MSRP *\r\na=path:msrp://x:1/y;tcp\r\n",
)
_NUMBERS = (b"0", b"-1", b"1", b"65535", b"65536", b"4294967296", b"18446744073709551616", b"1e9", b"0x10", b"\xd9\xa3")
_TOKENS = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b":",
    b"/",
    b"=",
    b"a=",
    b"m=audio ",
    b"c=IN IP4 ",
    b"\xff\xfe",
    b"IP6",
    b"|",
)
_POLICIES = (
    MediaPolicy(("G722", "PCMU", "PCMA")),
    MediaPolicy(srtp=Srtp.OPTIONAL, single_codec=False, prefer_own_order=True),
    MediaPolicy(srtp=Srtp.REQUIRED, rtcp_mux=False),
)
_SECRET = bytes(range(256))


def _flip_bit(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _cut(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randrange(1, 20) :]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice((*_TOKENS, *_NUMBERS)) * rng.choice((1, 1, 1, 2, 50)) + data[at:]


def _change_number(data: bytes, rng: random.Random) -> bytes:
    digits = [index for index, octet in enumerate(data) if 48 <= octet <= 57]
    if not digits:
        return data
    start = end = rng.choice(digits)
    while end < len(data) and 48 <= data[end] <= 57:
        end += 1
    return data[:start] + rng.choice(_NUMBERS) + data[end:]


def _repeat_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\r\n")
    at = rng.randrange(len(lines))
    return b"\r\n".join([*lines[:at], *[lines[at]] * rng.choice((0, 2, 3, 40, 600)), *lines[at + 1 :]])


def _shuffle_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\r\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\r\n".join(lines)


def _splice(data: bytes, rng: random.Random) -> bytes:
    other = rng.choice(SEEDS)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other)) :]


MUTATIONS: Sequence[Callable[[bytes, random.Random], bytes]] = (
    _flip_bit, _cut, _insert, _change_number, _repeat_line, _shuffle_lines, _splice,
)  # fmt: skip


def mutated(rng: random.Random) -> bytes:
    """One description, broken between one and six times."""
    data = rng.choice(SEEDS)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        data = rng.choice(MUTATIONS)(data, rng) or b"v=0"
    return data


def exercise(data: bytes, rng: random.Random) -> str:
    """Put one description through all of it; the name of what came out. Raises AssertionError when a rule is broken."""
    try:
        remote = parse(data)
    except ParseError:
        return "refused"
    text = serialize(remote)
    if len(text) <= 900:  # longer lines of broken UTF-8 may have grown beyond the limits
        assert parse(text) == remote, "a parsed description does not survive the round trip"
    policy = rng.choice(_POLICIES)
    local = rng.choice(("192.0.2.10", "2001:db8::10" if b"IP6" in data else "192.0.2.11", "127.0.0.1"))
    return f"{_answer(remote, policy, local)}, {_accept(remote, policy, local)}"


def _answer(remote: SessionDescription, policy: MediaPolicy, local: str) -> str:
    try:
        ours = answer(remote, policy, local, 16000, session_id=1, srtp_secret=_SECRET)
    except NoCommonCodec:
        return "offer: 488"
    lines = ours.description.media
    assert len(lines) == len(remote.media), "RFC 3264 §6: as many m= lines as the offer"
    assert sum(line.port != 0 for line in lines) == 1, "one stream"
    assert all(a.media == b.media for a, b in zip(lines, remote.media, strict=True))
    assert parse(serialize(ours.description)) == ours.description
    got = ours.negotiated
    assert got is not None
    assert 1024 <= got.remote_port <= 65535
    assert 10 <= got.ptime_ms <= 60
    assert str(got.send.payload_type) in remote.media[got.media_index].formats
    again = answer(remote, policy, local, 16000, session_id=1, previous=ours.description, srtp_secret=_SECRET)
    assert again.description == ours.description, "an unchanged offer keeps the answer and its version"
    return "offer: answered"


def _accept(remote: SessionDescription, policy: MediaPolicy, local: str) -> str:
    offer = make_offer(policy, local, 16000, session_id=1, srtp_secret=_SECRET if policy.srtp is not Srtp.OFF else b"")
    try:
        got = accept_answer(offer, remote, policy)
    except NoCommonCodec:
        return "answer: useless"
    if got is None:
        return "answer: no stream"
    assert {str(codec.payload_type) for codec in got.receive} <= set(offer.media[0].formats)
    assert policy.srtp is not Srtp.REQUIRED or got.srtp is not None, "no downgrade"
    return "answer: accepted"


def _resident_kb() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * (resource.getpagesize() // 1024)


def run(count: int, seed: int) -> dict[str, object]:
    """Exercise `count` broken descriptions; what came out, how fast, and by how much the process grew (KB)."""
    rng = random.Random(seed)
    found: Counter[str] = Counter()
    for _ in range(min(count, 2000)):  # so that caches and arenas are warm before memory is compared
        exercise(mutated(rng), rng)
    before_kb = _resident_kb()
    start = time.perf_counter()
    for number in range(count):
        data = mutated(rng)
        try:
            found[exercise(data, rng)] += 1
        except Exception:
            print(f"seed {seed}, description {number}: {data!r}", file=sys.stderr)
            raise
    seconds = time.perf_counter() - start
    grown_kb = _resident_kb() - before_kb
    return {"count": count, "per_second": round(count / seconds), "grown_kb": grown_kb, "outcomes": dict(found)}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Break session descriptions and watch what happens.")
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = run(options.count, options.seed)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['count']} descriptions, {result['per_second']} a second, grown by {result['grown_kb']} KB")
    for name, number in sorted(result["outcomes"].items(), key=lambda pair: -pair[1]):  # type: ignore[attr-defined]
        print(f"{number:10d}  {name}")


if __name__ == "__main__":
    main()
