"""SIP Outbound (RFC 5626): who we are and which flow it is, kept open and bound anew when it is lost. Virtual time."""

import re
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from sipagent.service.instance import instance_id
from sipagent.sip.engine import RegistrationState, TrunkAccount
from sipagent.sip.stun import BindingRequest, BindingResponse, decode, encode_response
from tests.sip.test_bindings import SERVER, TRUNK, US, Registrar, states
from tests.support.sipnet import Host, VirtualNetwork

INSTANCE = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"


HOURLY = replace(TRUNK, expires_s=3600)


def registering(
    *answers: str, account: TrunkAccount = TRUNK, **settings: object
) -> tuple[VirtualNetwork, Host, Registrar]:
    net = VirtualNetwork()
    us = net.host(US, account, trunk_of={SERVER: "t"}, **{"instance_id": INSTANCE, **settings})
    registrar = Registrar(net, *answers)
    us.agent.bindings.register(account, f"sip:agent@{US}:5060", True, net.now)
    return net, us, registrar


@pytest.mark.rfc("5626", "4.2.1", "MUST", role="UAC", text="REGISTER names our instance, the flow, and outbound")
def test_every_register_says_who_we_are_and_which_flow_it_is() -> None:
    net, us, registrar = registering()
    net.run(1000)
    assert len(registrar.seen) > 3
    for text in registrar.seen:
        assert f';+sip.instance="<urn:uuid:{INSTANCE}>";reg-id=1' in text
        assert "Supported: path, outbound" in text
    assert states(us)[-1] is RegistrationState.REGISTERED


def test_a_trunk_that_wants_none_of_it_gets_a_plain_contact() -> None:
    for settings, account in (
        ({"instance_id": ""}, TRUNK),
        ({}, TrunkAccount("t", f"sip:{SERVER}", "agent", sip_outbound=False)),
    ):
        net = VirtualNetwork()
        us = net.host(US, account, trunk_of={SERVER: "t"}, **{"instance_id": INSTANCE, **settings})
        registrar = Registrar(net)
        us.agent.bindings.register(account, f"sip:agent@{US}:5060", True, net.now)
        net.run(1)
        assert "sip.instance" not in registrar.seen[0] and "outbound" not in registrar.seen[0]


@pytest.mark.rfc("5626", "4.2", "MUST", role="UAC", text="each flow to an address of record has a reg-id of its own")
def test_two_flows_to_one_address_of_record_have_two_numbers() -> None:
    net, us, registrar = registering()
    for name, user in (("second", "agent"), ("other", "bob")):
        account = TrunkAccount(name, f"sip:{SERVER}", user)
        us.agent.bindings.register(account, f"sip:{user}@{US}:5060", True, net.now)
    net.run(1)
    assert [re.search(r"reg-id=(\d+)", text)[1] for text in registrar.seen] == ["1", "2", "1"]  # type: ignore[index]


@pytest.mark.rfc("5626", "6", "SHOULD", role="UAC", text="439: registered without outbound")
def test_a_proxy_that_knows_no_flows_is_done_without() -> None:
    net, us, registrar = registering("439", "200")
    net.run(1000)
    assert states(us) == [RegistrationState.REGISTERING, RegistrationState.REGISTERED]
    assert "outbound" in registrar.seen[0]
    assert len(registrar.seen) > 3
    assert not [text for text in registrar.seen[1:] if "outbound" in text or "instance" in text]


def test_our_binding_is_found_by_its_instance_when_the_registrar_wrote_its_address_anew() -> None:
    ours = f'<sip:x@192.0.2.1>;+sip.instance="<urn:uuid:{INSTANCE}>";reg-id=1;expires=40'
    net, us, registrar = registering(f"200|Contact: <sip:x@192.0.2.9>;expires=900, {ours}")
    registrar.net.drop = lambda source, text: source == US and _granted(registrar, text, ours)
    net.run(1)
    assert us.agent.bindings.states()["t"].expires_s == 40


def _granted(registrar: Registrar, text: str, contact: str) -> bool:
    """A registrar that lists our binding by an address of its own making."""
    kept = [line for line in text.split("\r\n") if line.split(":")[0] in ("Via", "From", "To", "Call-ID", "CSeq")]
    answer = ["SIP/2.0 200 OK", *kept, "Contact: <sip:x@192.0.2.9>;expires=900", f"Contact: {contact}", "", ""]
    registrar.net.inject(SERVER, US, "\r\n".join(answer).encode(), 0.02)
    return True


@pytest.mark.rfc("5626", "4.1", "MUST", role="UAC", text="the instance id outlives a restart")
def test_the_instance_id_outlives_a_restart(tmp_path: Path) -> None:
    first = instance_id(tmp_path / "calls")
    assert uuid.UUID(first).version == 4
    assert instance_id(tmp_path / "calls") == first
    assert (tmp_path / "calls" / "instance-id").stat().st_mode & 0o777 == 0o600
    assert instance_id(tmp_path / "others") != first


def test_an_instance_id_that_cannot_be_kept_lasts_until_the_end(tmp_path: Path) -> None:
    (tmp_path / "instance-id").write_text("rubbish")
    assert uuid.UUID(instance_id(tmp_path))
    assert uuid.UUID(instance_id(Path("/proc/no/such")))


# ---- keepalives on the flow


class StunServer:
    """Answers binding requests, as long as it is asked to; remembers when they came."""

    def __init__(self, net: VirtualNetwork) -> None:
        self.net, self.asked = net, []
        self.address, self.silent = ("192.0.2.7", 5060), False
        net.stun[SERVER] = self.answer

    def answer(self, data: bytes) -> bytes | None:
        request = decode(data)
        assert isinstance(request, BindingRequest)
        self.asked: list[float] = [*self.asked, self.net.now]
        return None if self.silent else encode_response(BindingResponse(request.transaction_id, *self.address))


def kept_alive(*answers: str, **settings: object) -> tuple[VirtualNetwork, Host, Registrar, StunServer]:
    """Registered for an hour at a time, with keepalives every 30 s at most."""
    settings = {"keepalive_s": 30.0, "keepalive": "stun", **settings}
    net, us, registrar = registering(*answers, account=HOURLY, **settings)
    stun = StunServer(net)
    us.agent.bindings.keep_alive(HOURLY, net.now)
    return net, us, registrar, stun


@pytest.mark.rfc("5626", "4.4.2", "SHOULD", role="UAC", text="STUN on a flow by UDP at a random 24 to 29 s")
def test_a_flow_is_kept_open_by_stun() -> None:
    net, us, registrar, stun = kept_alive()
    net.run(600)
    gaps = [later - earlier for earlier, later in zip(stun.asked, stun.asked[1:], strict=False)]
    assert 20 < len(stun.asked) < 27
    assert all(24 <= gap <= 29.2 for gap in gaps) and len(set(gaps)) == len(gaps)
    assert us.agent.stats()["keepalives_answered"] == len(stun.asked)
    assert not us.requests("OPTIONS") and len(registrar.seen) == 1


@pytest.mark.rfc("5626", "4.4.2", "MUST", role="UAC", text="a flow whose STUN is no longer answered is bound anew")
def test_a_flow_that_falls_silent_is_bound_anew() -> None:
    net, us, registrar, stun = kept_alive()
    net.run(100)
    before, stun.silent = len(stun.asked), True
    net.run(80)
    repetitions = stun.asked[before : before + 7]
    assert [round(at - repetitions[0], 1) for at in repetitions] == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert us.agent.stats()["keepalives_lost"] == 1
    assert len(registrar.seen) == 2, "REGISTER within two seconds of the loss"


@pytest.mark.rfc("5626", "4.4.2", "MUST", role="UAC", text="a mapped address that changes is a flow that was lost")
def test_a_nat_that_gives_another_address_is_noticed() -> None:
    net, _, registrar, stun = kept_alive()
    net.run(100)
    stun.address = ("192.0.2.7", 6060)
    net.run(32)
    assert len(registrar.seen) == 2
    net.run(200)
    assert len(registrar.seen) == 2, "once"


def test_a_server_that_speaks_no_stun_is_not_registered_at_over_and_over() -> None:
    net, us, registrar, stun = kept_alive()
    stun.silent = True
    net.run(1000)
    assert us.agent.stats()["keepalives_lost"] > 10
    assert len(registrar.seen) == 1


@pytest.mark.rfc("5626", "4.4", "MUST", role="UAC", text="keepalives come within the registrar's Flow-Timer")
def test_the_registrars_flow_timer_is_kept() -> None:
    net, _, _, stun = kept_alive("200|Flow-Timer: 10")
    net.run(300)
    gaps = [later - earlier for earlier, later in zip(stun.asked[2:], stun.asked[3:], strict=False)]
    assert len(gaps) > 20 and all(8 <= gap <= 9.8 for gap in gaps)


def test_only_the_answer_to_our_own_question_counts() -> None:
    net, us, registrar, stun = kept_alive()
    net.run(100)
    before, stun.silent = us.agent.stats()["keepalives_answered"], True
    strange = encode_response(BindingResponse(bytes(12), "192.0.2.66", 1))
    true: list[bytes] = []
    asked = net.stun[SERVER]

    def overheard(data: bytes) -> None:
        asked(data)
        request = decode(data)
        assert isinstance(request, BindingRequest)
        true.append(encode_response(BindingResponse(request.transaction_id, "192.0.2.66", 1)))

    net.stun[SERVER] = overheard
    net.run(30)
    for data in (strange, b"\1\1\0\4\x21\x12\xa4\x42" + bytes(16), true[-1]):
        source = "10.9.9.9" if data is true[-1] else SERVER
        net.inject(source, US, data)
    net.run(3)
    assert us.agent.stats()["keepalives_answered"] == before
    assert "keepalives_lost" not in us.agent.stats(), "and moves nothing"
    assert len(registrar.seen) == 1


def test_crlf_keeps_a_nat_open_and_expects_nothing() -> None:
    net, us, _, stun = kept_alive(keepalive="crlf")
    net.run(300)
    assert 9 < len([text for _, text in us.sent if text == "\r\n\r\n"]) < 14
    assert not stun.asked and "keepalives_lost" not in us.agent.stats()


def test_a_trunk_that_does_not_register_is_kept_alive_too() -> None:
    net = VirtualNetwork()
    account = TrunkAccount("t", f"sip:{SERVER}", register=False)
    us = net.host(US, account, trunk_of={SERVER: "t"}, keepalive_s=30.0, keepalive="stun")
    stun = StunServer(net)
    us.agent.bindings.keep_alive(account, net.now)
    net.run(100)
    assert len(stun.asked) >= 3
    us.agent.bindings.leave("t", net.now)
    asked = len(stun.asked)
    net.run(100)
    assert len(stun.asked) == asked
