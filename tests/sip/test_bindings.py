"""Registrations and keepalives on virtual time, from the machine to the wire and back."""

import re

import pytest

from sipagent.sip.engine import RegistrationChanged, RegistrationState, TrunkAccount
from tests.support.sipnet import Host, VirtualNetwork

US, SERVER = "10.0.0.2", "10.0.0.1"
TRUNK = TrunkAccount("t", f"sip:{SERVER}", "agent", password="secret", expires_s=300)
CHALLENGE = 'WWW-Authenticate: Digest realm="sip.test",nonce="n{number}",qop="auth",algorithm=SHA-256{more}'


class Registrar:
    """A far end that is only a script: REGISTERs in, answers out."""

    def __init__(self, net: VirtualNetwork, *answers: str) -> None:
        self.net, self.answers, self.seen = net, list(answers), []
        self.silent = False
        net.drop = self._take

    def _take(self, source: str, text: str) -> bool:
        if source != US:
            return False
        self.seen: list[str] = [*self.seen, text]
        if self.silent:
            return True
        first = self.answers.pop(0) if self.answers else "200"
        status, _, headers = first.partition("|")
        lines = text.split("\r\n\r\n")[0].split("\r\n")[1:]
        kept = [line for line in lines if line.split(":")[0] in ("Via", "From", "To", "Call-ID", "CSeq")]
        if status == "200":
            kept += [line for line in lines if line.startswith("Contact")]
        answer = [f"SIP/2.0 {status} X", *kept, *([headers] if headers else []), "Content-Length: 0", "", ""]
        self.net.inject(SERVER, US, "\r\n".join(answer).encode(), 0.02)
        return True


def registering(*answers: str, **settings: float) -> tuple[VirtualNetwork, Host, Registrar]:
    net = VirtualNetwork()
    us = net.host(US, TRUNK, trunk_of={SERVER: "t"}, **settings)
    registrar = Registrar(net, *answers)
    us.agent.bindings.register(TRUNK, f"sip:agent@{US}:5060", True, net.now)
    return net, us, registrar


def states(us: Host) -> list[RegistrationState]:
    return [event.state for event in us.of(RegistrationChanged)]


@pytest.mark.rfc(
    "3261",
    "22.2",
    "SHOULD",
    role="UAC",
    text="a registrar's challenge is answered with the same Call-ID and the next CSeq",
)
def test_challenge_is_answered_and_the_realm_remembered() -> None:
    net, us, registrar = registering(f"401|{CHALLENGE.format(number=1, more='')}", "200")
    net.run(1)
    assert states(us) == [RegistrationState.REGISTERING, RegistrationState.REGISTERED]
    assert "Authorization: Digest" in registrar.seen[1]
    numbers = [int(re.search(r"CSeq: (\d+)", text)[1]) for text in registrar.seen]  # type: ignore[index]
    assert numbers == [1, 2]
    assert len({re.search(r"Call-ID: (\S+)", text)[1] for text in registrar.seen}) == 1  # type: ignore[index]
    assert us.agent.bindings.realms == {"t": frozenset({"sip.test"})}


@pytest.mark.rfc("7616", "3.3", "SHOULD", role="UAC", text="stale=true: the request is repeated with the new nonce")
def test_stale_nonce_is_answered_again() -> None:
    stale = f"401|{CHALLENGE.format(number=2, more=',stale=true')}"
    net, us, registrar = registering(f"401|{CHALLENGE.format(number=1, more='')}", stale, "200")
    net.run(1)
    assert states(us)[-1] is RegistrationState.REGISTERED
    assert 'nonce="n2"' in registrar.seen[2]


@pytest.mark.rfc("3261", "10.2.8", "SHOULD", role="UAC", text="423: the registration is repeated with Min-Expires")
def test_interval_too_brief_is_asked_for_longer() -> None:
    net, us, registrar = registering("423|Min-Expires: 900", "200")
    net.run(1)
    assert "Expires: 900" in registrar.seen[1]
    assert us.of(RegistrationChanged)[-1].expires_s == 900


@pytest.mark.rfc("3261", "10.2.4", "MUST", role="UAC", text="a binding is refreshed before it expires")
def test_registration_is_refreshed_for_a_day_without_a_gap() -> None:
    net, us, registrar = registering()
    net.run(86_400)
    assert states(us) == [RegistrationState.REGISTERING, RegistrationState.REGISTERED]
    assert 86_400 / 300 < len(registrar.seen) < 86_400 / 150 + 1


@pytest.mark.rfc(
    "5626",
    "4.5",
    "MUST",
    role="UAC",
    text="a failed registration is tried again after a growing wait, and mended when the registrar is back",
)
def test_silence_is_reported_and_mended_when_the_registrar_is_back() -> None:
    net, us, registrar = registering()
    registrar.silent = True
    net.run(40)
    assert states(us)[-1] is RegistrationState.UNREACHABLE
    registrar.silent = False
    net.run(70)
    assert states(us)[-1] is RegistrationState.REGISTERED


@pytest.mark.rfc("3261", "11", "SHOULD", role="UAC", text="OPTIONS to a trunk shows that it is back")
def test_keepalive_that_is_answered_ends_the_wait_early() -> None:
    net, us, registrar = registering(keepalive_s=30.0)
    us.agent.bindings.keep_alive(TRUNK, net.now)
    registrar.silent = True
    net.run(400)
    registrar.silent = False
    net.run(40)
    assert states(us)[-1] is RegistrationState.REGISTERED
    assert any(text.startswith("OPTIONS") for text in registrar.seen)
    assert us.agent.stats()["keepalives_lost"] > 5
    assert us.agent.stats()["keepalives_answered"] >= 1


@pytest.mark.rfc("3261", "10.2.2", "SHOULD", role="UAC", text="un-registering sends Expires 0 for our own Contact")
def test_unregister_takes_the_contact_back() -> None:
    net, us, registrar = registering()
    net.run(1)
    us.agent.bindings.unregister(net.now)
    assert us.agent.bindings.leaving
    net.run(1)
    assert states(us)[-1] is RegistrationState.UNREGISTERED
    assert "expires=0" in registrar.seen[-1]
    assert not us.agent.bindings.leaving


@pytest.mark.rfc("3261", "10.2.7", "MUST", role="UAC", text="403 and 404 are told and tried again slowly")
@pytest.mark.parametrize("status", [403, 404])
def test_refusal_is_told_and_tried_again_slowly(status: int) -> None:
    net, us, registrar = registering(str(status), "200")
    net.run(60)
    refused = us.of(RegistrationChanged)[-1]
    assert (refused.state, refused.status) == (RegistrationState.REFUSED, status)
    assert len(registrar.seen) == 1
    net.run(600)
    assert states(us)[-1] is RegistrationState.REGISTERED
