"""SRTP keys of a call whose far end changes, from the description to the packets."""

import base64
import os
from dataclasses import replace

import pytest
from pylibsrtp import Policy, Session

from sipagent.calls.negotiation import MediaSession
from sipagent.rtp.srtp import PROFILES
from sipagent.sdp.negotiated import Srtp
from tests.rtp.line import Line

SUITE = "AES_CM_128_HMAC_SHA1_80"


def offer(key: bytes, port: int) -> bytes:
    return (
        "v=0\r\no=- 7 7 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
        f"m=audio {port} RTP/SAVP 0\r\na=crypto:1 {SUITE} inline:{base64.b64encode(key).decode()}\r\n"
    ).encode()


@pytest.mark.parametrize("port", [4000, 4002], ids=["at the same port", "at another port"])
def test_who_takes_the_call_over_after_twenty_minutes_hears_us(port: int) -> None:
    session = MediaSession(None, "192.0.2.10", 16000)
    session.policy = replace(session.policy, srtp=Srtp.REQUIRED)
    session.answer(offer(os.urandom(30), 4000))
    line = Line()
    line.open()
    line.do(session.stream(0, 1))
    line.plane.sender.sequence[0] = 65530
    line.run_ms(400)
    before = len(line.sent())
    session.answer(offer(os.urandom(30), port))
    stream = session.stream(0, 1)
    line.do(stream)
    line.run_ms(200)
    newcomer = Session(Policy(stream.srtp.local, Policy.SSRC_ANY_INBOUND, srtp_profile=PROFILES[SUITE]))
    for sent in line.sent()[before:]:
        assert newcomer.unprotect(sent.data)[:12] == sent.data[:12]
