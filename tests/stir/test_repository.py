"""Where certificates come from: a folder, or HTTPS from hosts that the operator allows, and from nowhere else."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sipagent.errors import ConfigError
from sipagent.stir import repository
from sipagent.stir.certificate import load_anchors
from sipagent.stir.repository import Repository
from sipagent.stir.sign import load_key
from sipagent.stir.telephone import Name
from sipagent.stir.verdict import Rejected, Verdict
from sipagent.stir.verify import Claimed, Verifier
from tests.support.certificates import authority
from tests.support.stir import Authority

Tls = tuple[str, str, str]  # authority, certificate, key


class Web:
    """A web server with TLS on loopback: one answer for all that ask."""

    def __init__(self, tls: Tls) -> None:
        trusted, certificate, key = tls
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(certificate, key)
        self.trusted = ssl.create_default_context(cafile=trusted)
        self.asked: list[str] = []
        self.body, self.status, self.headers = b"", "200 OK", ""
        self.held = asyncio.Event()
        self.held.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(request.decode().split()[1])
        await self.held.wait()
        head = f"HTTP/1.1 {self.status}\r\nContent-Length: {len(self.body)}\r\n{self.headers}\r\n"
        with contextlib.suppress(OSError):
            writer.write(head.encode() + self.body)
            await writer.drain()
            writer.close()


class Line:
    """A verifier, the signer of its calls, and the server that has the certificate."""

    def __init__(self, web: Web, port: int, folder: Path, allowed: bool = True) -> None:
        self.authority = Authority(time.time())
        self.signing = self.authority.issue()
        self.web, self.url = web, f"https://localhost:{port}/a.pem"
        web.body = self.signing.pem
        (folder / "anchors.pem").write_bytes(self.authority.anchor)
        hosts = (f"localhost:{port}",) if allowed else ("localhost",)
        self.repository = Repository(load_anchors(str(folder / "anchors.pem")), "", hosts, web.trusted)
        self.verifier = Verifier(self.repository, 60.0)

    def claimed(self, url: str = "") -> Claimed:
        value = self.signing.identity("+49301", "+49302", time.time(), url=url or self.url)
        return Claimed((value,), (Name("tn", "49301"),), (Name("tn", "49302"),))

    async def verify(self, url: str = "") -> Verdict:
        return await self.verifier.verify(self.claimed(url), time.time)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    made = authority(tmp_path_factory.mktemp("tls"))
    return made.certificate, *made.issue("web", "DNS:localhost")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with much to do may take long over TLS."""
    monkeypatch.setattr(repository, "STEP_S", 30.0)
    monkeypatch.setattr(repository, "FETCH_S", 60.0)


@contextlib.asynccontextmanager
async def line_to(tls: Tls, folder: Path, allowed: bool = True) -> AsyncIterator[Line]:
    web = Web(tls)
    server = await asyncio.start_server(web.serve, "127.0.0.1", 0, ssl=web.context)
    async with server:
        line = Line(web, server.sockets[0].getsockname()[1], folder, allowed)
        yield line
        await line.repository.close()


@pytest.mark.rfc("8224", "7.2", "MUST", role="UAS", text="the certificate is had from its URL, once")
async def test_a_certificate_is_fetched_once_for_all_calls_that_wait(tls: Tls, tmp_path: Path) -> None:
    async with line_to(tls, tmp_path) as line:
        assert line.verifier.at_once(line.claimed(), time.time()) is None
        verdicts = await asyncio.gather(*(line.verify() for _ in range(20)))
        assert {verdict.result for verdict in verdicts} == {"passed"}
        assert line.web.asked == ["/a.pem"]
        later = line.verifier.at_once(line.claimed(), time.time())
        assert later is not None and later.result == "passed"


async def test_a_caller_who_gives_up_does_not_stop_the_fetch_for_others(tls: Tls, tmp_path: Path) -> None:
    async with line_to(tls, tmp_path) as line:
        line.web.held.clear()
        first = asyncio.ensure_future(line.verify())
        second = asyncio.ensure_future(line.verify())
        async with asyncio.timeout(10):
            while not line.web.asked:
                await asyncio.sleep(0.01)
        first.cancel()
        line.web.held.set()
        assert (await second).result == "passed"
        assert len(line.web.asked) == 1


async def test_a_host_that_is_not_allowed_is_never_asked(tls: Tls, tmp_path: Path) -> None:
    async with line_to(tls, tmp_path, allowed=False) as line:
        verdict = await line.verify()
        assert (verdict.status, verdict.reason) == (436, "certificates are not fetched from this host")
        for url in (
            "http://localhost/",
            "file:///etc/passwd",
            "https://a@localhost/",
            "https://[::1",
            "https://localhost:x/",
            "",
        ):
            assert (await line.verify(url)).status in (436, 438)
        assert line.web.asked == [] and line.repository.fetched == 0


async def test_a_redirect_is_not_followed(tls: Tls, tmp_path: Path) -> None:
    async with line_to(tls, tmp_path) as line:
        line.web.status, line.web.headers = "302 Found", f"Location: {line.url}?2\r\n"
        verdict = await line.verify()
        assert (verdict.status, verdict.reason) == (436, "the certificate's server said 302")
        assert line.web.asked == ["/a.pem"]


async def test_an_answer_that_is_too_large_is_cut_off(tls: Tls, tmp_path: Path) -> None:
    async with line_to(tls, tmp_path) as line:
        line.web.body = b"x" * 1_000_000
        assert (await line.verify()).reason == "the certificate is too large"


async def test_an_answer_that_is_no_certificate_is_bad_identity_info(tls: Tls, tmp_path: Path) -> None:
    async with line_to(tls, tmp_path) as line:
        line.web.body = b"<html>"
        assert (await line.verify()).reason == "there is no certificate at the URL"


async def test_a_failed_fetch_is_not_repeated_for_every_call(tls: Tls, tmp_path: Path) -> None:
    async with line_to(tls, tmp_path) as line:
        line.web.status = "404 Not Found"
        for _ in range(3):
            assert (await line.verify()).status == 436
        assert len(line.web.asked) == 1


async def test_a_server_that_says_nothing_is_given_up(
    tls: Tls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "FETCH_S", 0.2)
    async with line_to(tls, tmp_path) as line:
        line.web.held.clear()
        assert (await line.verify()).reason == "the certificate's server does not answer"
        line.web.held.set()


async def test_a_server_whose_own_certificate_is_unknown_is_not_believed(tls: Tls, tmp_path: Path) -> None:
    async with line_to(tls, tmp_path) as line:
        line.repository._tls = None  # the system's authorities
        assert (await line.verify()).reason == "the certificate's server does not answer"


async def test_no_more_than_sixteen_certificates_are_fetched_at_once(tls: Tls, tmp_path: Path) -> None:
    async with line_to(tls, tmp_path) as line:
        line.web.held.clear()
        waiting = [asyncio.ensure_future(line.verify(f"{line.url}?{number}")) for number in range(16)]
        await asyncio.sleep(0)
        assert (await line.verify()).reason == "too many certificates are being fetched"
        line.web.held.set()
        assert {one.result for one in await asyncio.gather(*waiting)} == {"passed"}


async def test_the_folder_is_asked_before_the_network(tls: Tls, tmp_path: Path) -> None:
    async with line_to(tls, tmp_path) as line:
        line.signing.save_chain(tmp_path / "certificates", line.url)
        found = Repository(line.repository._anchors, str(tmp_path / "certificates"), ()).at_once(line.url, time.time())
        assert found is not None and found.subject == "CN=SHAKEN 1234"
        with pytest.raises(Rejected):
            Repository(line.repository._anchors, str(tmp_path), ()).at_once("../certificates", time.time())


def test_what_is_no_trust_anchor_or_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("x")
    with pytest.raises(ConfigError, match=r"sip\.stir_trust_anchors: .*holds no certificates"):
        load_anchors(str(tmp_path / "x.pem"))
    with pytest.raises(ConfigError, match=r"sip\.stir_trust_anchors: .*cannot be read"):
        load_anchors(str(tmp_path / "y.pem"))
    for name in ("x.pem", "y.pem"):
        with pytest.raises(ConfigError, match=r"trunk\[0\]\.stir_key"):
            load_key(str(tmp_path / name), "trunk[0].stir_key")
