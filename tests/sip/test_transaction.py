"""The transaction machines: their tables, their timers, and silence for what is in no table."""

import itertools

import pytest
from sipmessage import Request, Response

from sipagent.sip import message
from sipagent.sip.timing import TimerSettings
from sipagent.sip.transaction import (
    CLIENT,
    INVITE_CLIENT,
    INVITE_SERVER,
    SERVER,
    ClientTransaction,
    Deliver,
    GaveUp,
    Input,
    ServerTransaction,
    State,
    Table,
    Transmit,
)

T1 = TimerSettings()


def request(method: str = "INVITE") -> Request:
    text = (
        f"{method} sip:bob@10.0.0.2 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1\r\n"
        f"From: <sip:alice@10.0.0.1>;tag=a\r\nTo: <sip:bob@10.0.0.2>\r\nCall-ID: c\r\nCSeq: 7 {method}\r\n"
        "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
    parsed, fault = message.parse_message(text.encode())
    assert isinstance(parsed, Request)
    assert fault is None
    return parsed


def response(status: int, method: str = "INVITE") -> Response:
    return message.make_response(request(method), status, to_tag="b")


def sent(machine: ClientTransaction | ServerTransaction) -> list[str]:
    return [out.data.decode().split("\r\n")[0] for out in machine.drain() if isinstance(out, Transmit)]


def client(method: str, reliable: bool = False) -> ClientTransaction:
    machine = ClientTransaction(request(method), reliable, T1, 0.0)
    assert sent(machine) == [f"{method} sip:bob@10.0.0.2 SIP/2.0"]
    return machine


# ---- every pair of state and input


def put_client(machine: ClientTransaction, event: Input) -> None:
    statuses = {Input.PROVISIONAL: 180, Input.SUCCESS: 200, Input.FAILURE: 486}
    if event in statuses:
        machine.receive(response(statuses[event], machine.request.method), 1.0)
    elif event is Input.TRANSPORT_ERROR:
        machine.fail(1.0)


@pytest.mark.rfc("3261", "17.1", "MUST", role="UAC", text="client transactions follow figures 5 and 6")
@pytest.mark.parametrize(("method", "table"), [("INVITE", INVITE_CLIENT), ("BYE", CLIENT)])
@pytest.mark.parametrize(
    ("state", "event"),
    list(itertools.product(State, (Input.PROVISIONAL, Input.SUCCESS, Input.FAILURE, Input.TRANSPORT_ERROR))),
)
def test_client_moves_by_its_table_and_ignores_the_rest(method: str, table: Table, state: State, event: Input) -> None:
    machine = client(method)
    machine.state = state
    put_client(machine, event)
    assert machine.state is table.get((state, event), state)
    if (state, event) not in table:
        assert machine.drain() == []


@pytest.mark.rfc("3261", "17.2", "MUST", role="UAS", text="server transactions follow figures 7 and 8")
@pytest.mark.parametrize(("method", "table"), [("INVITE", INVITE_SERVER), ("BYE", SERVER)])
@pytest.mark.parametrize(
    ("state", "event"), list(itertools.product(State, (Input.PROVISIONAL, Input.SUCCESS, Input.FAILURE, Input.REQUEST)))
)
def test_server_moves_by_its_table_and_ignores_the_rest(method: str, table: Table, state: State, event: Input) -> None:
    machine = ServerTransaction(request(method), False, T1, 0.0)
    machine.state = state
    statuses = {Input.PROVISIONAL: 180, Input.SUCCESS: 200, Input.FAILURE: 486}
    if event is Input.REQUEST:
        machine.receive(request(method), 1.0)
    else:
        assert machine.respond(response(statuses[event], method), 1.0) is ((state, event) in table)
    assert machine.state is table.get((state, event), state)


@pytest.mark.rfc("3261", "17", "MUST", role="both", text="every transaction ends")
@pytest.mark.parametrize("table", [INVITE_CLIENT, CLIENT, INVITE_SERVER, SERVER])
def test_every_state_of_a_table_leads_to_its_end_and_nothing_leaves_the_end(table: Table) -> None:
    assert all(state is not State.TERMINATED for state, _ in table)
    for start in {state for state, _ in table}:
        reached = {start}
        while more := {to for (state, _), to in table.items() if state in reached} - reached:
            reached |= more
        assert State.TERMINATED in reached


# ---- timers


def repeats(machine: ClientTransaction | ServerTransaction, until: float) -> list[float]:
    times: list[float] = []
    while machine.deadline is not None and machine.deadline <= until:
        now = machine.deadline
        machine.on_deadline(now)
        times += [now for _ in sent(machine)]
    return times


@pytest.mark.rfc(
    "3261", "17.1.1.2", "MUST", role="UAC", text="over UDP an INVITE is repeated after T1, 2*T1, 4*T1 … (T1 500 ms)"
)
def test_invite_is_repeated_with_doubling_gaps_and_given_up_after_32_seconds() -> None:
    machine = client("INVITE")
    assert repeats(machine, 31.9) == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    machine.on_deadline(32.0)
    assert machine.drain() == [GaveUp(transport=False)]
    assert machine.state is State.TERMINATED


@pytest.mark.rfc("3261", "17.1.2.2", "MUST", role="UAC", text="other requests are repeated at min(2^n*T1, T2), T2 4 s")
def test_other_requests_are_repeated_at_most_every_four_seconds() -> None:
    assert repeats(client("BYE"), 31.9) == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]


@pytest.mark.rfc("3261", "17.1.1.2", "SHOULD", role="UAC", text="over a reliable transport nothing is repeated")
def test_a_stream_repeats_nothing_but_still_gives_up() -> None:
    machine = client("BYE", reliable=True)
    assert machine.deadline == 32.0


@pytest.mark.rfc(
    "3261", "17.1.1.2", "MUST", role="UAC", text="a provisional response stops the repetition of an INVITE"
)
def test_provisional_response_stops_the_repetition_of_an_invite_for_good() -> None:
    machine = client("INVITE")
    machine.receive(response(180), 0.1)
    assert machine.deadline is None


@pytest.mark.rfc(
    "3261", "17.1.2.2", "MUST", role="UAC", text="a provisional response slows the repetition of other requests to T2"
)
def test_provisional_response_slows_the_repetition_of_another_request_to_t2() -> None:
    machine = client("BYE")
    machine.receive(response(100, "BYE"), 0.1)
    machine.drain()
    assert repeats(machine, 9.0) == [0.5, 4.5, 8.5]


@pytest.mark.rfc(
    "3261", "17.1.1.2", "MUST", role="UAC", text="each repetition of a refusal gets its ACK, the user hears of it once"
)
def test_refusal_is_acknowledged_each_time_but_told_once() -> None:
    machine = client("INVITE")
    machine.receive(response(486), 1.0)
    outputs = machine.drain()
    assert [type(out) for out in outputs] == [Transmit, Deliver]
    acknowledgement = outputs[0]
    assert isinstance(acknowledgement, Transmit)
    parsed, _ = message.parse_message(acknowledgement.data)
    assert isinstance(parsed, Request)
    assert (parsed.method, message.top_via(parsed).branch, message.cseq(parsed)) == ("ACK", "z9hG4bK1", (7, "ACK"))
    assert message.address(parsed, "To").tag == "b"
    machine.receive(response(486), 2.0)
    assert [type(out) for out in machine.drain()] == [Transmit]
    machine.on_deadline(33.0)
    assert machine.state is State.TERMINATED


@pytest.mark.rfc("6026", "8.4", "MUST", role="UAC", text="state Accepted: 2xx go to the user for 64*T1")
def test_accepted_hands_every_2xx_to_the_user_since_forks_may_answer_later() -> None:
    machine = client("INVITE")
    machine.receive(response(200), 1.0)
    machine.receive(response(200), 5.0)
    assert [type(out) for out in machine.drain()] == [Deliver, Deliver]
    assert machine.deadline == 33.0


@pytest.mark.rfc("3261", "17.2.1", "MUST", role="UAS", text="a refusal of an INVITE is repeated until its ACK")
def test_server_repeats_a_refusal_until_its_ack() -> None:
    machine = ServerTransaction(request(), False, T1, 0.0)
    machine.respond(response(486), 0.0)
    assert len(sent(machine)) == 1
    assert repeats(machine, 9.0) == [0.5, 1.5, 3.5, 7.5]
    ack = request("ACK")
    machine.receive(ack, 9.1)
    assert machine.state is State.CONFIRMED
    assert machine.deadline == pytest.approx(14.1)


@pytest.mark.rfc(
    "3261", "17.2.1", "MUST", role="UAS", text="timer H: 64*T1 without ACK of a refusal ends the transaction"
)
def test_server_without_ack_gives_up() -> None:
    machine = ServerTransaction(request(), False, T1, 0.0)
    machine.respond(response(486), 0.0)
    repeats(machine, 31.9)
    machine.on_deadline(32.0)
    assert machine.drain()[-1] == GaveUp(transport=False)


@pytest.mark.rfc("3261", "17.2.1", "MUST", role="UAS", text="a repeated request gets the latest response again")
def test_repeated_request_gets_the_latest_response_again() -> None:
    machine = ServerTransaction(request(), False, T1, 0.0)
    machine.respond(response(180), 0.0)
    machine.drain()
    machine.receive(request(), 0.5)
    assert sent(machine) == ["SIP/2.0 180 Ringing"]
    machine.respond(response(200), 1.0)
    machine.drain()
    machine.receive(request(), 1.5)
    assert sent(machine) == []  # RFC 6026: the user repeats the 2xx


@pytest.mark.rfc("3261", "17.2.2", "SHOULD", role="UAS", text="no state stays for a request that was not answered")
def test_request_that_nobody_answers_is_forgotten_when_its_sender_has_given_up() -> None:
    machine = ServerTransaction(request("REFER"), False, T1, 0.0)
    assert machine.deadline == 32.0
    machine.on_deadline(32.0)
    assert machine.state is State.TERMINATED


@pytest.mark.rfc("3261", "17.2.1", "MUST", role="UAS", text="a transaction has one final response")
def test_second_final_response_is_refused() -> None:
    machine = ServerTransaction(request("BYE"), False, T1, 0.0)
    assert machine.respond(response(200, "BYE"), 0.0)
    assert not machine.respond(response(481, "BYE"), 0.1)
