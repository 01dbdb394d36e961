from pathlib import Path

import httpx2
import pytest

from sipagent.http.app import create_app
from sipagent.http.control import Refusal
from sipagent.service.config.tree import Config, Http
from tests.http.fake import CONFIG, TOKEN, FakeControl

GUARDED = ["/v1/calls", "/v1/calls/c1", "/v1/calls/c1/events"]


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ü"])
async def test_without_the_token_nothing_is_told(client: httpx2.AsyncClient, path: str, header: str) -> None:
    response = await client.get(path, headers={b"Authorization": header.encode("latin-1")})
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer realm="sipagent"'
    assert response.headers["content-type"] == "application/problem+json"


async def test_without_the_token_nothing_is_placed(client: httpx2.AsyncClient, control: FakeControl) -> None:
    response = await client.post("/v1/calls", json={"to": "+4930123456"}, headers={"Authorization": ""})
    assert response.status_code == 401
    assert control.requests == []


async def test_a_unix_socket_needs_no_token(control: FakeControl) -> None:
    app = create_app(Config(http=Http(listen="unix:/run/x", token="unused")), control)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://sipagent") as client:
        assert (await client.get("/v1/calls")).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"])
async def test_probes_and_documents_are_open(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.get(path, headers={"Authorization": ""})).status_code == 200


async def test_health_tells_of_the_registrations(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"registrations": {"office": "registered"}}


async def test_ready_says_what_is_missing(client: httpx2.AsyncClient, control: FakeControl) -> None:
    assert (await client.get("/readyz")).json() == {"ready": True, "missing": []}
    control.is_ready = False
    response = await client.get("/readyz")
    assert (response.status_code, response.json()) == (503, {"ready": False, "missing": ["draining"]})


async def test_metrics_ask_call_control_at_each_scrape(client: httpx2.AsyncClient) -> None:
    assert "sipagent_calls 0.0" in (await client.get("/metrics")).text
    await client.post("/v1/calls", json={"to": "+4930123456"})
    text = (await client.get("/metrics")).text
    assert "sipagent_calls 1.0" in text
    assert "process_resident_memory_bytes" in text


async def test_requests_are_counted_by_route_and_not_by_path(client: httpx2.AsyncClient) -> None:
    for call_id in ("a", "b"):
        await client.get(f"/v1/calls/{call_id}")
    await client.get("/wp-admin.php")
    text = (await client.get("/metrics")).text
    assert 'sipagent_http_requests_total{method="GET",path="/v1/calls/{call_id}",status="404"} 2.0' in text
    assert 'sipagent_http_requests_total{method="GET",path="unknown",status="404"} 1.0' in text


async def test_two_endpoints_do_not_share_metrics(control: FakeControl) -> None:
    create_app(CONFIG, control)
    create_app(CONFIG, control)


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status"),
    [
        ("GET", "/nothing", b"", {}, 404),
        ("DELETE", "/v1/calls", b"", {}, 405),
        ("POST", "/v1/calls", b"{", {"Content-Type": "application/json"}, 422),
        ("POST", "/v1/calls", b"\xff\xfe", {"Content-Type": "application/json"}, 422),
        ("POST", "/v1/calls", b"x" * 70_000, {"Content-Type": "application/json"}, 413),
        ("POST", "/v1/calls", b"{}", {"Content-Length": "many"}, 413),
        ("POST", "/v1/calls", b"{}", {"Transfer-Encoding": "chunked"}, 411),
    ],
)
async def test_whatever_goes_wrong_is_a_problem(
    client: httpx2.AsyncClient, method: str, path: str, content: bytes, headers: dict[str, str], status: int
) -> None:
    response = await client.request(method, path, content=content, headers=headers)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status


async def test_a_fault_of_ours_tells_nothing_of_our_insides(control: FakeControl) -> None:
    control.calls = lambda: 1 // 0  # type: ignore[method-assign,assignment,return-value]
    transport = httpx2.ASGITransport(app=create_app(CONFIG, control), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://sipagent") as client:
        response = await client.get("/v1/calls", headers={"Authorization": f"Bearer {TOKEN}"})
    assert response.status_code == 500
    assert "division" not in response.text
    assert response.headers["content-type"] == "application/problem+json"


async def test_the_openapi_document_names_every_endpoint(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/v1/calls",
        "/v1/calls/{call_id}",
        "/v1/calls/{call_id}/hangup",
        "/v1/calls/{call_id}/answer",
        "/v1/calls/{call_id}/reject",
        "/v1/calls/{call_id}/dtmf",
        "/v1/calls/{call_id}/hold",
        "/v1/calls/{call_id}/resume",
        "/v1/calls/{call_id}/transfer",
        "/v1/calls/{call_id}/whisper",
        "/v1/calls/{call_id}/step-in",
        "/v1/calls/{call_id}/step-out",
        "/v1/calls/{call_id}/take-back",
        "/v1/calls/{call_id}/events",
        "/v1/calls/{call_id}/ladder",
        "/v1/calls/{call_id}/capture",
        "/v1/calls/{call_id}/pcap",
        "/v1/calls/{call_id}/recording",
        "/v1/calls/{call_id}/recording/pause",
        "/v1/calls/{call_id}/recording/resume",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    assert document["paths"]["/v1/calls"]["post"]["security"]


async def test_the_manual_names_every_endpoint(client: httpx2.AsyncClient) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
    paths = (await client.get("/openapi.json")).json()["paths"]
    for path, methods in paths.items():
        for method in methods:
            assert f"`{method.upper()} {path.replace('{call_id}', '{id}')}`" in manual
    for refusal in Refusal:
        assert f"`{refusal.value}`" in manual
