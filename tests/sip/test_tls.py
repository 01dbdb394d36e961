"""SIP over TLS: both ends ours, certificates of the test's own authority."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from sipagent.errors import ConfigError
from sipagent.sip.engine import Answered, Confirmed, Ended, EngineSettings, IncomingCall, PlaceCall
from sipagent.sip.native import NativeEngine
from sipagent.sip.resolver import Records
from tests.sip.support import SDP, Station
from tests.support.certificates import Authority, authority
from tests.support.ports import free_port

CALLER, CALLEE = free_port(tcp=True), free_port(tcp=True)
OPTIONS = (
    "OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:1;branch=z9hG4bK{branch}\r\n"
    "From: <sip:t@127.0.0.1>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: o\r\nCSeq: 1 OPTIONS\r\n"
    "Content-Length: 0\r\n\r\n"
)


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


class FixedNames:
    """A name server that knows one host."""

    async def query(self, name: str, kind: str) -> Records:
        return Records(("127.0.0.1",)) if kind == "A" and name == "pbx.test" else Records()


def tls_settings(trusted: Authority, port: int, alternative: str = "IP:127.0.0.1") -> EngineSettings:
    certificate, key = trusted.issue(f"host{port}{alternative[:3]}", alternative)
    return EngineSettings(
        listen=(f"tls:127.0.0.1:{port}",), tls_certificate=certificate, tls_key=key, tls_ca=trusted.certificate
    )


@asynccontextmanager
async def running(settings: EngineSettings) -> AsyncIterator[Station]:
    made = Station(settings)
    made.engine = NativeEngine(settings, resolver=FixedNames())
    await made.engine.start(made.note)
    try:
        yield made
    finally:
        await made.engine.stop()


@pytest.mark.rfc("5923", "9", "SHOULD", role="both", text="both directions use one TLS connection")
@pytest.mark.rfc("3261", "26.3.1", "MUST", role="both", text="a call over TLS")
@pytest.mark.parametrize("host", ["127.0.0.1", "pbx.test"])
async def test_call_over_tls_is_set_up_on_one_verified_connection(trusted: Authority, host: str) -> None:
    alternative = "IP:127.0.0.1" if host == "127.0.0.1" else "DNS:pbx.test"
    async with (
        running(tls_settings(trusted, CALLEE, alternative)) as callee,
        running(tls_settings(trusted, CALLER)) as caller,
    ):
        callee.answer_all()
        handle = caller.engine.place(PlaceCall(f"sip:bob@{host}:{CALLEE};transport=tls", "", SDP, "alice"))
        await caller.expect(Answered)
        incoming = await callee.expect(IncomingCall)
        await callee.expect(Confirmed)
        text = str(callee.engine.ladder(incoming.handle))
        assert f"SIP/2.0/TLS 127.0.0.1:{CALLER}" in text
        assert f"<sip:alice@127.0.0.1:{CALLER};transport=tls>" in text
        callee.engine.hangup(incoming.handle)
        assert (await caller.expect(Ended)).by == "remote"
        del handle


@pytest.mark.rfc("3261", "19.1", "MUST", role="UAC", text="a sips URI is reached by TLS only")
async def test_sips_uri_goes_by_tls(trusted: Authority) -> None:
    async with running(tls_settings(trusted, CALLEE)) as callee, running(tls_settings(trusted, CALLER)) as caller:
        callee.answer_all()
        caller.engine.place(PlaceCall(f"sips:bob@127.0.0.1:{CALLEE}", "", SDP, "alice"))
        await caller.expect(Answered)


@pytest.mark.rfc("5922", "7.2", "MUST", role="UAC", text="the certificate must name the SIP domain")
async def test_certificate_of_another_name_is_refused_with_words(trusted: Authority) -> None:
    async with (
        running(tls_settings(trusted, CALLEE, "DNS:other.test")) as callee,
        running(tls_settings(trusted, CALLER)) as caller,
    ):
        caller.engine.place(PlaceCall(f"sip:bob@pbx.test:{CALLEE};transport=tls", "", SDP))
        ended = await caller.expect(Ended)
        assert (ended.by, ended.status) == ("transport", 503)
        assert "certificate" in ended.reason.lower()
        assert not callee.events


@pytest.mark.rfc("5922", "7.1", "MUST", role="UAC", text="the certificate must lead to a trusted authority")
async def test_certificate_of_an_unknown_authority_is_refused(
    trusted: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = authority(tmp_path_factory.mktemp("other"))
    settings = replace(tls_settings(trusted, CALLER), tls_ca=other.certificate)
    async with running(tls_settings(trusted, CALLEE)), running(settings) as caller:
        caller.engine.place(PlaceCall(f"sip:bob@127.0.0.1:{CALLEE};transport=tls", "", SDP))
        assert "certificate" in (await caller.expect(Ended)).reason.lower()


async def test_verification_can_be_switched_off_in_words(trusted: Authority) -> None:
    settings = replace(tls_settings(trusted, CALLER), tls_verify=False, tls_ca="")
    async with running(tls_settings(trusted, CALLEE, "DNS:other.test")) as callee, running(settings) as caller:
        callee.answer_all()
        caller.engine.place(PlaceCall(f"sip:bob@127.0.0.1:{CALLEE};transport=tls", "", SDP))
        await caller.expect(Answered)


async def test_listener_without_certificate_is_a_configuration_error() -> None:
    engine = NativeEngine(EngineSettings(listen=(f"tls:127.0.0.1:{CALLEE}",)))
    with pytest.raises(ConfigError, match="tls_certificate"):
        await engine.start(lambda event: None)
    await engine.stop()


@pytest.mark.rfc("8996", "4", "MUST", role="UAS", text="TLS 1.2 and 1.3, nothing older")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_server_speaks_both_versions_in_use(trusted: Authority, version: ssl.TLSVersion) -> None:
    async with running(tls_settings(trusted, CALLEE)):
        context = ssl.create_default_context(cafile=trusted.certificate)
        context.minimum_version = context.maximum_version = version
        reader, writer = await asyncio.open_connection("127.0.0.1", CALLEE, ssl=context)
        writer.write(OPTIONS.format(branch=version).encode())
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 2)).startswith(b"SIP/2.0 200")
        writer.close()
        await writer.wait_closed()


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts."""
    return authority(tmp_path_factory.mktemp("stranger"))


async def shaken(trusted: Authority, shown: tuple[str, str] | None) -> bytes:
    """What a client gets that shows this certificate: the answer to its OPTIONS, or nothing."""
    context = ssl.create_default_context(cafile=trusted.certificate)
    if shown:
        context.load_cert_chain(*shown)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", CALLEE, ssl=context)
    except OSError:
        return b""
    try:
        writer.write(OPTIONS.format(branch="mutual").encode())
        return await asyncio.wait_for(reader.read(600), 5)
    except OSError:  # with TLS 1.3 the client hears of it after its own handshake
        return b""
    finally:
        writer.transport.abort()


@pytest.mark.rfc("3261", "26.3.1", "MAY", role="UAS", text="mutual TLS: a client that connects must show a certificate")
async def test_a_client_with_a_certificate_of_the_named_authority_is_served(trusted: Authority) -> None:
    shown = trusted.issue("client", "DNS:client.test")
    async with running(replace(tls_settings(trusted, CALLEE), tls_client_ca=trusted.certificate)) as callee:
        assert (await shaken(trusted, shown)).startswith(b"SIP/2.0 200")
        assert not callee.engine.stats().get("tls_clients_refused")


@pytest.mark.parametrize("shows", ["none", "of a stranger"])
async def test_a_client_without_such_a_certificate_is_refused_told_and_counted(
    trusted: Authority, stranger: Authority, shows: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = stranger.issue("client", "DNS:client.test") if shows != "none" else None
    async with running(replace(tls_settings(trusted, CALLEE), tls_client_ca=trusted.certificate)) as callee:
        assert await shaken(trusted, shown) == b""
        assert callee.engine.stats()["tls_clients_refused"] == 1
    told = capsys.readouterr().out
    assert "tls_client_refused" in told and "127.0.0.1" in told and "sip.tls_client_ca" in told
    assert ("it showed none" if shown is None else "unable to get local issuer") in told


async def test_garbage_on_the_tls_port_is_counted_and_held_against_no_certificate(trusted: Authority) -> None:
    async with running(tls_settings(trusted, CALLEE)) as callee:
        reader, writer = await asyncio.open_connection("127.0.0.1", CALLEE)
        writer.write(b"INVITE sip:a@b SIP/2.0\r\n\r\n")
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
        stats = callee.engine.stats()
        assert (stats["tls_handshakes_failed"], stats.get("tls_clients_refused", 0)) == (1, 0)


async def test_an_authority_file_that_is_none_is_a_configuration_error(trusted: Authority) -> None:
    settings = tls_settings(trusted, CALLEE)
    engine = NativeEngine(replace(settings, tls_client_ca=settings.tls_key))
    with pytest.raises(ConfigError, match="tls_client_ca"):
        await engine.start(lambda event: None)
    await engine.stop()
