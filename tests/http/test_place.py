import asyncio
import json
import re
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent.errors import ParseError
from sipagent.http.app import create_app
from sipagent.http.control import CallRequest, Refusal, Refused
from sipagent.http.problems import STATUS
from sipagent.service import destinations
from sipagent.service.config.tree import Config, Http, Limits
from tests.http.fake import CONFIG, TOKEN, FakeControl

APP = create_app(CONFIG, FakeControl())


async def test_a_call_is_accepted_with_its_id_and_state(client: httpx2.AsyncClient, control: FakeControl) -> None:
    response = await client.post("/v1/calls", json={"to": "+4930123456"})
    assert response.status_code == 202
    assert response.json() == {"id": "c1", "state": "offered"}
    assert control.requests == [CallRequest("+4930123456")]


async def test_everything_in_the_request_reaches_call_control(client: httpx2.AsyncClient, control: FakeControl) -> None:
    body = {
        "to": "sip:alice@trunk.example:5070;transport=tcp",
        "from": "+4930999",
        "trunk": "office",
        "brain": "receptionist:Receptionist",
        "variables": {"name": "Ada", "tries": [1, 2]},
    }
    assert (await client.post("/v1/calls", json=body)).status_code == 202
    assert control.requests == [
        CallRequest(body["to"], "+4930999", "office", "receptionist:Receptionist", body["variables"])  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "to"),
        ({"to": "4930123456"}, "to"),
        ({"to": "+49 30 123"}, "to"),
        ({"to": "+0123456"}, "to"),
        ({"to": "+1234567890123456"}, "to"),
        ({"to": "alice"}, "to"),
        ({"to": "tel:+4930123456"}, "to"),
        ({"to": "+4930123456\r\nVia: x"}, "to"),
        ({"to": "sip:alice@trunk.example\r\nX: y"}, "to"),
        ({"to": "sip:alice%0d%0a@trunk.example"}, "to"),
        ({"to": "sip:alice:secret@trunk.example"}, "to"),
        ({"to": "sip:alice@trunk.example?Subject=x"}, "to"),
        ({"to": "sip:alice@trunk.example;maddr=10.0.0.1"}, "to"),
        ({"to": "sip:alice@trunk.example:70000"}, "to"),
        ({"to": "sip:trunk.example"}, "to"),
        ({"to": "sip:alice@[.]"}, "to"),
        ({"to": "sip:alice@[:]"}, "to"),
        ({"to": "sip:" + "a" * 300 + "@trunk.example"}, "to"),
        ({"to": 49301234}, "to"),
        ({"to": "+4930123456", "from": "a\r\nb"}, "from"),
        ({"to": "+4930123456", "from": "sip:a@b"}, "from"),
        ({"to": "+4930123456", "trunk": "off ice"}, "trunk"),
        ({"to": "+4930123456", "brain": "os.system"}, "brain"),
        ({"to": "+4930123456", "variables": []}, "variables"),
        ({"to": "+4930123456", "variables": {"x": "y" * 20_000}}, "variables"),
        ({"to": "+4930123456", "headers": {}}, "headers"),
        ({"to": "+4930123456", "variables": {"x": float("inf")}}, "variables"),
    ],
)
async def test_a_request_that_is_not_valid_is_refused_by_field(
    client: httpx2.AsyncClient, control: FakeControl, body: dict[str, Any], field: str
) -> None:
    response = await client.post("/v1/calls", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == "tag:sipagent,2026:invalid-request"
    assert [error["field"] for error in problem["errors"]] == [field]
    assert control.requests == []


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b'{"to": "+4930123456", "brian": "x"}', "application/json", "brian: is no field of this request"),
        (b"{}", "application/json", "to: is missing"),
        (b'{"to": "+4930123456"}', "text/plain", "with Content-Type: application/json"),
        (b"[]", "application/json", "send a JSON object"),
    ],
)
async def test_what_is_wrong_with_a_request_is_said_in_words_of_the_endpoint(
    client: httpx2.AsyncClient, content: bytes, kind: str, words: str
) -> None:
    response = await client.post("/v1/calls", content=content, headers={"Content-Type": kind})
    assert response.status_code == 422 and words in response.json()["detail"]


@pytest.mark.parametrize(
    "to",
    [
        "sip:alice@elsewhere.example",
        "sip:alice@127.0.0.1",
        "sip:alice@pbx.example",  # only its port 5070 is allowed
        "+4900123456",
        "sip:+4900123456@trunk.example",
        "sip:004900123456@trunk.example",
        "sip:%2B4900123456@trunk.example",
        "sip:+49-00-123456@trunk.example",
    ],
)
async def test_a_destination_outside_of_the_lists_is_refused(
    client: httpx2.AsyncClient, control: FakeControl, to: str
) -> None:
    response = await client.post("/v1/calls", json={"to": to})
    assert response.status_code == 422
    assert response.json()["type"] == "tag:sipagent,2026:destination-not-allowed"
    assert control.requests == []


@pytest.mark.parametrize("to", ["sip:alice@TRUNK.example", "sip:100@pbx.example:5070", "sips:alice@trunk.example."])
async def test_hosts_of_trunks_and_those_listed_are_allowed(client: httpx2.AsyncClient, to: str) -> None:
    assert (await client.post("/v1/calls", json={"to": to})).status_code == 202


@pytest.mark.parametrize("refusal", list(Refusal))
async def test_every_refusal_is_a_problem(client: httpx2.AsyncClient, control: FakeControl, refusal: Refusal) -> None:
    control.refusal = Refused(refusal, "not now", 7)
    response = await client.post("/v1/calls", json={"to": "+4930123456"})
    status, title = STATUS[refusal]
    assert response.status_code == status
    assert response.headers["retry-after"] == "7"
    assert response.json() == {
        "type": f"tag:sipagent,2026:{refusal.value}",
        "title": title,
        "status": status,
        "detail": "not now",
    }


async def test_calls_are_placed_at_a_limited_rate(control: FakeControl) -> None:
    now = [100.0]
    config = Config(http=Http(listen="unix:/x"), limits=Limits(place_per_minute=6))
    transport = httpx2.ASGITransport(app=create_app(config, control, now=lambda: now[0]))
    async with httpx2.AsyncClient(transport=transport, base_url="http://sipagent") as client:
        call = {"to": "+4930123456"}
        assert (await client.post("/v1/calls", json=call)).status_code == 202
        refused = await client.post("/v1/calls", json=call)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
        now[0] += 10
        assert (await client.post("/v1/calls", json=call)).status_code == 202


# ---- Idempotency-Key


async def test_the_same_key_places_one_call(client: httpx2.AsyncClient, control: FakeControl) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = await client.post("/v1/calls", json={"to": "+4930123456"}, headers=key)
    again = await client.post(
        "/v1/calls", content=b'{"to":  "+4930123456"}', headers={**key, "Content-Type": "application/json"}
    )
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert len(control.requests) == 1


async def test_the_same_key_with_another_request_is_refused(client: httpx2.AsyncClient, control: FakeControl) -> None:
    key = {"Idempotency-Key": "k-1"}
    await client.post("/v1/calls", json={"to": "+4930123456"}, headers=key)
    response = await client.post("/v1/calls", json={"to": "+4930123457"}, headers=key)
    assert response.status_code == 422
    assert response.json()["type"] == "tag:sipagent,2026:idempotency-key-reused"
    assert len(control.requests) == 1


async def test_a_refusal_does_not_use_up_the_key(client: httpx2.AsyncClient, control: FakeControl) -> None:
    key = {"Idempotency-Key": "k-1"}
    control.refusal = Refused(Refusal.NO_CAPACITY, "full")
    assert (await client.post("/v1/calls", json={"to": "+4930123456"}, headers=key)).status_code == 503
    control.refusal = None
    assert (await client.post("/v1/calls", json={"to": "+4930123456"}, headers=key)).status_code == 202


async def test_a_key_with_blanks_is_refused(client: httpx2.AsyncClient) -> None:
    response = await client.post("/v1/calls", json={"to": "+4930123456"}, headers={"Idempotency-Key": "a b"})
    assert response.status_code == 422


# ---- whatever comes


@given(st.text(max_size=40))
def test_a_destination_that_is_read_can_be_written_into_a_header(text: str) -> None:
    try:
        destination = destinations.parse(text)
    except ParseError:
        return
    assert re.fullmatch(r"[!-~]+", destination.text)


@given(st.from_regex(destinations.SIP_URI, fullmatch=True))
def test_a_sip_uri_leads_nowhere_but_to_its_host(text: str) -> None:
    try:
        destination = destinations.parse(text)
    except ParseError:
        return
    assert "maddr" not in text.partition("@")[2].lower()
    policy = destinations.DestinationPolicy.of(CONFIG)
    assert policy.objection(destination) or destination.host in ("trunk.example", "pbx.example")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(["to", "from", "trunk", "brain", "variables", "other"])


@given(st.dictionaries(FIELDS, JSON, max_size=6) | JSON)
def test_whatever_the_body_is_the_answer_is_accepted_or_a_problem(body: Any) -> None:
    async def ask() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=APP)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://sipagent", headers=headers) as client:
            return await client.post(
                "/v1/calls", content=json.dumps(body), headers={"Content-Type": "application/json"}
            )

    response = asyncio.run(ask())
    assert response.status_code in (202, 422, 429)
    assert response.headers["content-type"] in ("application/json", "application/problem+json")
