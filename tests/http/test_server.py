import asyncio
import contextlib
import signal
import socket
import stat
from pathlib import Path

import httpx2
import msgspec
import pytest

from sipagent.errors import ConfigError
from sipagent.http import serving
from sipagent.http.control import CallRequest
from sipagent.http.server import HttpServer
from sipagent.service.config.tree import Config, Http
from tests.http.fake import CONFIG, TOKEN, FakeControl


def listening(listen: str) -> Config:
    return msgspec.structs.replace(CONFIG, http=Http(listen=listen, token=TOKEN))


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0"])
async def test_the_endpoint_answers_on_tcp_and_says_where(control: FakeControl, listen: str) -> None:
    server = HttpServer(listening(listen), control)
    await server.start()
    try:
        async with httpx2.AsyncClient() as client:
            response = await client.get(f"http://{server.address}/healthz")
            assert response.status_code == 200
            assert "server" not in response.headers
    finally:
        await server.stop()
    with pytest.raises(httpx2.ConnectError):
        async with httpx2.AsyncClient() as client:
            await client.get(f"http://{server.address}/healthz")


async def test_signals_stay_with_the_service(control: FakeControl) -> None:
    before = signal.getsignal(signal.SIGTERM)
    server = HttpServer(listening("127.0.0.1:0"), control)
    await server.start()
    assert signal.getsignal(signal.SIGTERM) is before
    await server.stop()


async def test_a_unix_socket_is_for_user_and_group_and_goes_with_the_server(
    control: FakeControl, tmp_path: Path
) -> None:
    path = tmp_path / "http.sock"
    server = HttpServer(listening(f"unix:{path}"), control)
    await server.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    async with httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=str(path))) as client:
        assert (await client.get("http://sipagent/v1/calls")).status_code == 200
    await server.stop()
    assert not path.exists()


async def test_a_socket_left_by_a_dead_process_is_replaced(control: FakeControl, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = HttpServer(listening(f"unix:{path}"), control)
    await server.start()
    await server.stop()


async def test_a_socket_in_use_is_not_taken(control: FakeControl, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        with pytest.raises(ConfigError, match=r"http\.listen"):
            await HttpServer(listening(f"unix:{path}"), control).start()
        assert path.exists()


async def test_a_port_in_use_is_a_configuration_error(control: FakeControl) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigError, match=r"http\.listen"):
            await HttpServer(listening(f"127.0.0.1:{other.getsockname()[1]}"), control).start()


async def test_stopping_ends_an_event_stream_in_order(control: FakeControl) -> None:
    server = HttpServer(listening("127.0.0.1:0"), control)
    await server.start()
    call_id = control.place(CallRequest("+4930123456")).id
    control.happen("state", state="ringing")
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as client,
        client.stream("GET", f"http://{server.address}/v1/calls/{call_id}/events") as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.aiter_lines()
        while not (line := await anext(lines)).startswith("id:"):
            pass
        assert line == "id: 1"
        stopping = asyncio.create_task(server.stop())
        assert [line async for line in lines][-1] == ""  # a whole event, then the end; no broken connection
        await stopping
    assert control.watching == 0


async def test_a_client_that_hangs_up_frees_its_stream(control: FakeControl) -> None:
    server = HttpServer(listening("127.0.0.1:0"), control)
    await server.start()
    call_id = control.place(CallRequest("+4930123456")).id
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        async with client.stream("GET", f"http://{server.address}/v1/calls/{call_id}/events"):
            while not control.watching:
                await asyncio.sleep(0)
        async with asyncio.timeout(5):
            while control.watching:
                await asyncio.sleep(0.001)
    await server.stop()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: sip",
        b"GET /healthz HTTP/1.1\r\nHost: sipagent\r\n\r\nGET /healthz HT",
        b"POST /v1/calls HTTP/1.1\r\nHost: sipagent\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
    ],
)
async def test_a_client_that_does_not_finish_its_request_is_hung_up_on(
    control: FakeControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(serving, "PATIENCE_SECONDS", 0.1)
    path = tmp_path / "http.sock"
    server = HttpServer(listening(f"unix:{path}"), control)
    await server.start()
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(sent)
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 3)
        writer.close()
    finally:
        await server.stop()
