"""Certificates by their URL: out of a folder, or by HTTPS from hosts that the operator allows (RFC 8224 §7.2).

The URL stands in a stranger's header. So nothing is fetched from anywhere else, no redirect is followed, an answer is
limited in size and time, and each URL is asked for once at a time, however many calls wait for it.
"""

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote, urlsplit

import httpx2

from sipagent.stir.certificate import Signer, Store, read_chain
from sipagent.stir.verdict import BAD_IDENTITY_INFO, Rejected

FETCH_S: Final = 3.0  # a caller waits no longer for a certificate
STEP_S: Final = 1.0  # nor for TCP, for TLS or for bytes: the client closes its socket when it times out by itself only
MAX_BYTES: Final = 65_536
MAX_FETCHES: Final = 16  # at once
KEEP_S: Final = 3600.0  # a certificate, before it is had anew
KEEP_FAILURE_S: Final = 60.0
REMEMBERED: Final = 512  # certificates, and as many failures
MAX_URL: Final = 240  # escaped, it is the name of a file
T = TypeVar("T")


class Repository:
    """Gives the signer behind a URL; `tls` stands in for the system's authorities."""

    def __init__(self, anchors: Store, folder: str, hosts: Iterable[str], tls: ssl.SSLContext | None = None) -> None:
        self._anchors, self._folder = anchors, Path(folder) if folder else None
        self._hosts = frozenset(host.lower() for host in hosts)
        self._tls = tls
        self._signers: OrderedDict[str, tuple[float, Signer]] = OrderedDict()
        self._failures: OrderedDict[str, tuple[float, Rejected]] = OrderedDict()
        self._fetches: dict[str, asyncio.Task[bytes]] = {}
        self.fetched = 0

    def at_once(self, url: str, now: float) -> Signer | None:
        """The signer, when no fetch is needed for it, else None; raises Rejected. `now` is Unix seconds."""
        kept = self._signers.get(url)
        if kept is not None and now < min(kept[0], kept[1].valid_to):
            self._signers.move_to_end(url)
            return kept[1]
        failure = self._failures.get(url)
        if failure is not None and now < failure[0]:
            raise failure[1]
        pem = self._stored(url)
        if pem is not None:
            return self._learn(url, pem, now)
        self._check(url)
        return None

    async def get(self, url: str, now: Callable[[], float]) -> Signer:
        """The signer, fetched when it must be; raises Rejected."""
        found = self.at_once(url, now())
        if found is not None:
            return found
        fetch = self._fetches.get(url)
        if fetch is None:
            if len(self._fetches) >= MAX_FETCHES:
                raise Rejected(BAD_IDENTITY_INFO, "too many certificates are being fetched")
            fetch = self._fetches[url] = asyncio.ensure_future(self._fetch(url))
            fetch.add_done_callback(lambda _: self._fetches.pop(url, None))
        try:
            pem = await asyncio.shield(fetch)  # others may wait for the same one when this caller gives up
        except Rejected as rejected:
            _keep(self._failures, url, (now() + KEEP_FAILURE_S, rejected))
            raise
        return self._learn(url, pem, now())

    async def close(self) -> None:
        """Give up what is being fetched."""
        fetches = list(self._fetches.values())
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)

    def _learn(self, url: str, pem: bytes, now: float) -> Signer:
        try:
            signer = read_chain(pem, self._anchors, now)
        except Rejected as rejected:
            _keep(self._failures, url, (now + KEEP_FAILURE_S, rejected))
            raise
        _keep(self._signers, url, (now + KEEP_S, signer))
        return signer

    def _stored(self, url: str) -> bytes | None:
        """The file that is named like the URL, escaped: https%3A%2F%2Fcert.example%2Fa.pem."""
        name = quote(url, safe="")
        if self._folder is None or len(name) > MAX_URL or not name.startswith("http"):
            return None
        try:
            return (self._folder / name).read_bytes()[:MAX_BYTES]
        except OSError:
            return None

    def _check(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise Rejected(BAD_IDENTITY_INFO, "the certificate's URL is none") from error
        host = parts.hostname or ""
        named = host if port in (None, 443) else f"{host}:{port}"
        if parts.scheme != "https" or "@" in parts.netloc or not url.isascii() or not url.isprintable():
            raise Rejected(BAD_IDENTITY_INFO, "the certificate's URL is not https")
        if named not in self._hosts:
            raise Rejected(BAD_IDENTITY_INFO, "certificates are not fetched from this host")

    async def _fetch(self, url: str) -> bytes:
        self.fetched += 1
        pem = bytearray()
        try:
            async with (
                asyncio.timeout(FETCH_S),
                httpx2.AsyncClient(
                    verify=self._tls or True, trust_env=False, follow_redirects=False, timeout=STEP_S
                ) as client,
                client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
            ):
                if response.status_code != 200:
                    raise Rejected(BAD_IDENTITY_INFO, f"the certificate's server said {response.status_code}")
                async for part in response.aiter_raw():
                    pem += part
                    if len(pem) > MAX_BYTES:
                        raise Rejected(BAD_IDENTITY_INFO, "the certificate is too large")
        except (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Rejected(BAD_IDENTITY_INFO, "the certificate's server does not answer") from error
        return bytes(pem)


def _keep(where: OrderedDict[str, T], url: str, what: T) -> None:
    where[url] = what
    where.move_to_end(url)
    if len(where) > REMEMBERED:
        where.popitem(last=False)
