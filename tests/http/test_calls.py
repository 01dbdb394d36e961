from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from sipagent.http.control import Refusal, Refused, TransferWish
from tests.http.fake import FakeControl


@pytest.fixture
async def call_id(client: httpx2.AsyncClient) -> str:
    response = await client.post("/v1/calls", json={"to": "+4930123456", "from": "+49301"})
    return str(response.json()["id"])


async def test_calls_are_listed_and_shown(client: httpx2.AsyncClient, call_id: str) -> None:
    shown = (await client.get(f"/v1/calls/{call_id}")).json()
    assert (shown["id"], shown["from"], shown["to"], shown["outcome"]) == (call_id, "+49301", "+4930123456", "")
    (listed,) = (await client.get("/v1/calls")).json()["calls"]
    assert listed.items() <= shown.items()
    assert "transcript" not in listed  # a list of a thousand calls is not the place


async def test_a_call_is_shown_with_what_was_said(
    client: httpx2.AsyncClient, control: FakeControl, call_id: str
) -> None:
    line = {"role": "user", "text": "Tomorrow at ten."}
    control.views[call_id] = replace(
        control.views[call_id], transcript=(line,), collected_vars={"when": "10:00"}, disposition="booked"
    )
    shown = (await client.get(f"/v1/calls/{call_id}")).json()
    assert (shown["transcript"], shown["collected_vars"], shown["disposition"]) == ([line], {"when": "10:00"}, "booked")


@pytest.mark.parametrize("body", [None, {}, {"reason": "operator"}])
async def test_a_call_is_hung_up(
    client: httpx2.AsyncClient, control: FakeControl, call_id: str, body: dict[str, str] | None
) -> None:
    response = await client.post(f"/v1/calls/{call_id}/hangup", json=body)
    assert (response.status_code, response.json()) == (202, {"id": call_id, "state": "ending"})
    assert control.asked == [("hangup", call_id, (body or {}).get("reason", ""))]


async def test_a_caller_in_early_media_is_answered(
    client: httpx2.AsyncClient, control: FakeControl, call_id: str
) -> None:
    assert (await client.post(f"/v1/calls/{call_id}/answer")).status_code == 202
    assert control.asked == [("answer", call_id)]
    control.refusal = Refused(Refusal.WRONG_STATE, "the call is connected")
    assert (await client.post(f"/v1/calls/{call_id}/answer")).status_code == 409


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (None, 202, ("603", "", "", "0")),
        ({"status": 404, "reason": "Not in service"}, 202, ("404", "Not in service", "", "0")),
        (
            {"status": 302, "contact": "sip:other@elsewhere.example"},
            202,
            ("302", "", "sip:other@elsewhere.example", "0"),
        ),
        ({"status": 480, "retry_after_seconds": 60}, 202, ("480", "", "", "60")),
        ({"status": 200}, 422, None),
        ({"status": 404, "reason": "a\r\nInjected: b"}, 422, None),
        ({"status": 302, "contact": "sip:other@elsewhere.example>\r\nInjected: b"}, 422, None),
    ],
)
async def test_a_caller_is_refused_with_any_status(
    client: httpx2.AsyncClient,
    control: FakeControl,
    call_id: str,
    body: dict[str, object] | None,
    status: int,
    expected: tuple[str, ...] | None,
) -> None:
    assert (await client.post(f"/v1/calls/{call_id}/reject", json=body)).status_code == status
    assert control.asked == ([("reject", call_id, *expected)] if expected else [])


async def test_digits_are_pressed(client: httpx2.AsyncClient, control: FakeControl, call_id: str) -> None:
    assert (await client.post(f"/v1/calls/{call_id}/dtmf", json={"digits": "12#"})).status_code == 202
    assert control.asked == [("dtmf", call_id, "12#")]


async def test_a_call_is_transferred(client: httpx2.AsyncClient, control: FakeControl, call_id: str) -> None:
    body = {"to": "+4930777", "mode": "bridged", "ring_seconds": 12}
    assert (await client.post(f"/v1/calls/{call_id}/transfer", json=body)).status_code == 202
    assert control.asked == [("transfer", call_id, TransferWish("+4930777", "bridged", 12))]


async def test_a_transfer_says_what_becomes_of_the_agent(
    client: httpx2.AsyncClient, control: FakeControl, call_id: str
) -> None:
    more = {"whisper": "Mr Miller.", "listen": True, "back": True, "back_key": "*"}
    body = {"to": "+4930777", "mode": "bridged", "ring_seconds": 12, **more}
    assert (await client.post(f"/v1/calls/{call_id}/transfer", json=body)).status_code == 202
    assert control.asked[0][2] == TransferWish("+4930777", "bridged", 12, "Mr Miller.", True, True, "*")


async def test_an_agent_that_is_with_two_others_whispers_and_steps_in(
    client: httpx2.AsyncClient, control: FakeControl, call_id: str
) -> None:
    for path in ("step-in", "step-out", "take-back"):
        assert (await client.post(f"/v1/calls/{call_id}/{path}")).status_code == 202
    assert (await client.post(f"/v1/calls/{call_id}/whisper", json={"text": "Offer Friday."})).status_code == 202
    assert control.asked == [
        ("step_in", call_id, True),
        ("step_in", call_id, False),
        ("take_back", call_id),
        ("whisper", call_id, "Offer Friday.", "colleague"),
    ]
    control.refusal = Refused(Refusal.WRONG_STATE, "no colleague is on the line")
    assert (await client.post(f"/v1/calls/{call_id}/whisper", json={"text": "Hello?"})).status_code == 409


async def test_a_call_is_put_on_hold_and_taken_back(
    client: httpx2.AsyncClient, control: FakeControl, call_id: str
) -> None:
    for path in ("hold", "resume"):
        assert (await client.post(f"/v1/calls/{call_id}/{path}")).status_code == 202
    assert control.asked == [("hold", call_id), ("resume", call_id)]


async def test_a_transfer_cannot_lead_where_a_call_cannot(
    client: httpx2.AsyncClient, control: FakeControl, call_id: str
) -> None:
    response = await client.post(f"/v1/calls/{call_id}/transfer", json={"to": "sip:a@elsewhere.example"})
    assert response.status_code == 422
    assert control.asked == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("dtmf", {"digits": "12x"}),
        ("dtmf", {"digits": ""}),
        ("transfer", {"to": "+4930777", "mode": "magic"}),
        ("transfer", {"to": "+4930777", "ring_seconds": 0}),
        ("transfer", {"to": "+4930777", "back_key": "12"}),
        ("whisper", {"text": ""}),
        ("whisper", {"text": "Hello.", "to": "everybody"}),
        ("hangup", {"reason": "a\r\nb"}),
    ],
)
async def test_what_is_not_valid_is_refused(
    client: httpx2.AsyncClient, control: FakeControl, call_id: str, path: str, body: dict[str, str]
) -> None:
    assert (await client.post(f"/v1/calls/{call_id}/{path}", json=body)).status_code == 422
    assert control.asked == []


async def test_a_wrong_moment_is_a_conflict(client: httpx2.AsyncClient, control: FakeControl, call_id: str) -> None:
    control.refusal = Refused(Refusal.WRONG_STATE, "the call is ringing")
    response = await client.post(f"/v1/calls/{call_id}/dtmf", json={"digits": "1"})
    assert (response.status_code, response.json()["detail"]) == (409, "the call is ringing")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/calls/none", None),
        ("GET", "/v1/calls/none/events", None),
        ("POST", "/v1/calls/none/hangup", {}),
        ("POST", "/v1/calls/none/dtmf", {"digits": "1"}),
        ("POST", "/v1/calls/none/transfer", {"to": "sip:a@elsewhere.example"}),
        ("POST", "/v1/calls/none/hold", None),
    ],
)
async def test_an_unknown_call_is_not_found(
    client: httpx2.AsyncClient, method: str, path: str, body: dict[str, str] | None
) -> None:
    response = await client.request(method, path, json=body)
    assert response.status_code == 404
    assert response.json()["type"] == "tag:sipagent,2026:no-such-call"


async def test_the_messages_of_a_call_are_shown_as_text(client: httpx2.AsyncClient, call_id: str) -> None:
    response = await client.get(f"/v1/calls/{call_id}/ladder")
    assert response.headers["content-type"].startswith("text/plain")
    assert "INVITE sip:agent@127.0.0.1" in response.text
    assert (await client.get("/v1/calls/none/ladder")).status_code == 404


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("", "*/*", "text/plain"),
        ("?format=svg", "*/*", "image/svg+xml"),
        ("", "image/svg+xml", "image/svg+xml"),
        ("?format=text", "image/svg+xml", "text/plain"),
    ],
)
async def test_the_messages_of_a_call_are_drawn_when_a_drawing_is_asked_for(
    client: httpx2.AsyncClient, call_id: str, query: str, accept: str, kind: str
) -> None:
    response = await client.get(f"/v1/calls/{call_id}/ladder{query}", headers={"Accept": accept})
    assert response.headers["content-type"].startswith(kind)
    assert response.headers["x-content-type-options"] == "nosniff"
    if kind == "image/svg+xml":
        assert response.headers["content-security-policy"].startswith("default-src 'none'")
        assert response.text.startswith("<svg")


async def test_a_ladder_in_a_form_that_we_do_not_have_is_refused(client: httpx2.AsyncClient, call_id: str) -> None:
    assert (await client.get(f"/v1/calls/{call_id}/ladder?format=pdf")).status_code == 422


async def test_a_capture_is_begun_ended_and_fetched(
    client: httpx2.AsyncClient, control: FakeControl, call_id: str, tmp_path: Path
) -> None:
    path = f"/v1/calls/{call_id}/capture"
    assert (await client.post(path)).status_code == 202
    assert (await client.delete(path)).status_code == 202
    assert control.asked == [("capture", call_id), ("no capture", call_id)]
    control.capture_file = tmp_path / "c1.pcapng"
    control.capture_file.write_bytes(bytes(range(256)) * 1000)
    response = await client.get(f"/v1/calls/{call_id}/pcap")
    assert response.content == bytes(range(256)) * 1000
    assert response.headers["content-type"] == "application/vnd.tcpdump.pcap"
    assert response.headers["content-disposition"] == 'attachment; filename="c1.pcapng"'


async def test_a_recording_is_begun_paused_ended_and_fetched(
    client: httpx2.AsyncClient, control: FakeControl, call_id: str, tmp_path: Path
) -> None:
    path = f"/v1/calls/{call_id}/recording"
    assert (await client.post(path)).status_code == 202
    assert (await client.post(path, json={"format": "flac"})).status_code == 202
    assert (await client.post(f"{path}/pause")).status_code == 202
    assert (await client.post(f"{path}/resume")).status_code == 202
    assert (await client.delete(path)).status_code == 202
    actions = [("start", ""), ("start", "flac"), ("pause", ""), ("resume", ""), ("stop", "")]
    assert control.asked == [("record", call_id, *each) for each in actions]
    assert (await client.post(path, json={"format": "mp3"})).status_code == 422
    assert (await client.get(path)).json()["type"] == "tag:sipagent,2026:no-recording"
    control.recording_file = tmp_path / "c1.flac"
    control.recording_file.write_bytes(bytes(range(256)) * 1000)
    response = await client.get(path)
    assert response.content == bytes(range(256)) * 1000
    assert response.headers["content-type"] == "audio/flac"


@pytest.mark.parametrize("gone", [False, True])
async def test_a_call_without_a_capture_has_no_file(
    client: httpx2.AsyncClient, control: FakeControl, call_id: str, tmp_path: Path, gone: bool
) -> None:
    control.capture_file = tmp_path / "gone.pcapng" if gone else None
    response = await client.get(f"/v1/calls/{call_id}/pcap")
    assert (response.status_code, response.json()["type"]) == (404, "tag:sipagent,2026:no-capture")
    assert (await client.get("/v1/calls/none/pcap")).json()["type"] == "tag:sipagent,2026:no-such-call"
