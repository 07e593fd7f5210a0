"""Git LFS's batch API: which objects are where, and each of them into a file.

docs/decisions/0015-lfs-objects.md says why no program does it. Nothing that a repository holds
decides whom we ask; what a server answers decides only where bytes of a known digest come from.
"""

import asyncio
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urljoin, urlsplit

import httpx

from controller import environment
from controller.errors import StalledError, TransientError
from controller.model.settings import GitSource
from controller.source import remote
from controller.source.lfs_login import Address, address_of
from controller.source.login import check_certificate, value_of
from controller.source.pointers import Pointer
from controller.source.processes import CONTROLS

MEDIA = "application/vnd.git-lfs+json"
MOST_ASKED = 100  # objects in one question
MOST_ANSWER = 4 << 20  # bytes of the answer to it
HOPS = 5
SLOWEST = 256 << 10  # bytes a second; a slower download ends
PIECE = 1 << 20
LONGEST_SAYING = 200
OURS = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding"}
GONE = {404, 410}


@dataclass(frozen=True, slots=True)
class Link:
    """Where an object can be had; its query or headers may let one in."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


@asynccontextmanager
async def reached(
    settings: GitSource, secret: remote.Secret | None, folder: Path
) -> AsyncIterator["Server"]:
    """Yield the LFS server of a repository, with its login.

    Raises:
        StalledError, TransientError: it can't be reached, or doesn't let us in.
    """
    value = await value_of(settings, secret)
    address = await address_of(settings, value, folder)
    async with AsyncExitStack() as stack:
        yield Server(settings, address, stack)


class Server:
    """One LFS server, for the length of one fetch."""

    def __init__(self, settings: GitSource, address: Address, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._address = address
        self._stack = stack
        self._seconds = settings.timeout.total_seconds()
        self._where = f"{remote.shown(settings.url)}: Git LFS"
        self._clients: dict[bool, httpx.AsyncClient] = {}  # by whether it is the server's own host

    async def links(self, wanted: Sequence[Pointer]) -> dict[str, Link]:
        """Return where each object is, by its id; ask for at most MOST_ASKED."""
        question = {
            "operation": "download",
            "transfers": ["basic"],
            "objects": [{"oid": one.oid, "size": one.size} for one in wanted],
        }
        told = {"accept": MEDIA, "content-type": MEDIA, **self._address.headers}
        url = f"{self._address.url}/objects/batch"
        async with self._trying(self._seconds):
            client = await self._client(url)
            async with client.stream("POST", url, json=question, headers=told) as answer:
                if not answer.is_success:
                    raise self._refusal(answer.status_code)
                found = read(await bounded(answer))
        return {one.oid: self._link(one, found.get(one.oid, {})) for one in wanted}

    def _link(self, one: Pointer, told: Mapping[str, Any]) -> Link:
        """Return where an object is. Raises StalledError, TransientError: it can't be had."""
        action = mapping(mapping(told.get("actions")).get("download"))
        url = action.get("href")
        if not isinstance(url, str):
            error = mapping(told.get("error"))
            if told and error.get("code") not in {*GONE, None}:
                raise self._failure(f"{one.path}: {saying(error.get('message'))}")
            raise self._missing(one, saying(error.get("message")))
        given = {
            name.lower(): text
            for name, text in mapping(action.get("header")).items()
            if isinstance(text, str) and name.lower() not in OURS
        }
        own = self._address.headers if url.startswith(f"{self._address.repository}/") else {}
        return Link(self._allowed(url), {**own, **given})

    async def download(self, one: Pointer, link: Link, target: BinaryIO) -> None:
        """Write an object: exactly the bytes that its pointer names.

        Raises:
            StalledError: LfsObjectMissing, LfsObjectDamaged, AuthFailed, CertificateUnknown.
            TransientError: FetchFailed, FetchTimeout.
        """
        async with (
            self._trying(self._seconds + one.size / SLOWEST),
            self._followed(link) as answer,
        ):
            if answer.status_code in GONE:
                raise self._missing(one, f"HTTP {answer.status_code}")
            if not answer.is_success:
                raise self._failure(f"{one.path}: HTTP {answer.status_code}")
            await self._take(one, answer, target)

    async def _take(self, one: Pointer, answer: httpx.Response, target: BinaryIO) -> None:
        name, size = hashlib.sha256(), 0
        async for piece in answer.aiter_raw(PIECE):
            size += len(piece)
            if size > one.size:
                break
            name.update(piece)
            await asyncio.to_thread(target.write, piece)
        if size < one.size:
            raise self._failure(f"{one.path}: ended after {size:,} of {one.size:,} bytes")
        if size > one.size or name.hexdigest() != one.oid:
            raise StalledError(
                f"{one.path}: what the server sends is not the object {one.oid[:12]}",
                reason="LfsObjectDamaged",
                where=self._where,
                remedy="push the object again (git lfs push --all)",
            )

    @asynccontextmanager
    async def _followed(self, link: Link) -> AsyncIterator[httpx.Response]:
        """Yield the answer to a link; to another host goes nothing but the question."""
        for _ in range(HOPS):
            client = await self._client(link.url)
            async with client.stream("GET", link.url, headers=link.headers) as answer:
                if not answer.is_redirect:
                    yield answer
                    return
                url = self._allowed(urljoin(link.url, answer.headers["location"]))
                stays = origin(url) == origin(link.url)
                link = Link(url, link.headers if stays else {})
        raise self._failure(f"sends us on more than {HOPS} times")

    def _allowed(self, url: str) -> str:
        """Return a link that may be followed. Raises StalledError: it leads into the clear."""
        kinds = {"https", urlsplit(self._address.url).scheme}
        try:
            parts = urlsplit(url)
            good = parts.scheme in kinds and parts.hostname and parts.username is None
        except ValueError:
            good = False
        problem, _ = remote.url_problem(url.partition("?")[0])
        if good and not problem:
            return url
        raise StalledError(
            "the server names an address that isn't fetched from: "
            f"{remote.shown(url.partition('?')[0]).translate(CONTROLS)[:LONGEST_SAYING]}",
            reason="LfsUnavailable",
            where=self._where,
            remedy="have it give https:// addresses",
        )

    async def _client(self, url: str) -> httpx.AsyncClient:
        own = origin(url) == origin(self._address.url)
        if own not in self._clients:
            context = await asyncio.to_thread(trust, self._settings, own=own)
            made = httpx.AsyncClient(
                verify=context,
                trust_env=False,
                proxy=self._settings.proxy,
                timeout=self._seconds,
                headers={"user-agent": "rondel", "accept-encoding": "identity"},
            )
            self._clients[own] = await self._stack.enter_async_context(made)
        return self._clients[own]

    # What went wrong.

    @asynccontextmanager
    async def _trying(self, seconds: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except (TimeoutError, httpx.TimeoutException):
            problem = f"no answer, or too slow a one, in {seconds:g} s"
            raise TransientError(problem, reason="FetchTimeout", where=self._where) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            text = str(error) or type(error).__name__
            if "CERTIFICATE_VERIFY_FAILED" in text:
                raise self._stalled("CertificateUnknown", text) from None
            raise self._failure(saying(text)) from None

    def _refusal(self, status: int) -> StalledError | TransientError:
        if status in {401, 403}:
            return self._stalled("AuthFailed", f"HTTP {status}")
        if 300 <= status < 400:  # noqa: PLR2004 - sent elsewhere
            return self._stalled("Redirected", f"HTTP {status}")
        if status in {*GONE, 405, 406, 501}:
            return StalledError(
                f"the server doesn't speak it (HTTP {status})",
                reason="LfsUnavailable",
                where=self._where,
                remedy="switch Git LFS on for the repository, or leave out `lfs`",
            )
        return self._failure(f"HTTP {status}")

    def _missing(self, one: Pointer, why: str) -> StalledError:
        return StalledError(
            f"{one.path}: the server has no object {one.oid[:12]}" + (f": {why}" if why else ""),
            reason="LfsObjectMissing",
            where=self._where,
            remedy="push it (git lfs push --all)",
        )

    def _failure(self, problem: str) -> TransientError:
        return TransientError(problem, reason="FetchFailed", where=self._where)

    def _stalled(self, reason: str, problem: str) -> StalledError:
        remedy = remote.REMEDIES[reason]
        return StalledError(problem, reason=reason, where=self._where, remedy=remedy)


async def bounded(answer: httpx.Response) -> bytes:
    """Return an answer's body. Raises DecodingError for one that is longer than any."""
    body = bytearray()
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > MOST_ANSWER:
            raise httpx.DecodingError("the answer is too long")
    return bytes(body)


def read(body: bytes) -> dict[str, Mapping[str, Any]]:
    """Return what was said of each object, by its id."""
    try:
        told = mapping(json.loads(body))
    except (ValueError, RecursionError):
        raise httpx.DecodingError("the answer is no JSON") from None
    objects = told.get("objects")
    if told.get("transfer", "basic") != "basic" or not isinstance(objects, list):
        raise httpx.DecodingError("the answer is not one of the basic transfer")
    return {str(one.get("oid")): one for one in map(mapping, objects)}


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def saying(value: Any) -> str:
    """Return what a server says, fit for a terminal."""
    text = value if isinstance(value, str) else ""
    return " ".join(text.translate(CONTROLS).split())[:LONGEST_SAYING]


def origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return parts.scheme, parts.hostname or "", port


def trust(settings: GitSource, *, own: bool) -> ssl.SSLContext:
    """Return whom we believe; to its own host a source shows its certificate."""
    authority = settings.ca_file or environment.get("GIT_SSL_CAINFO")
    context = ssl.create_default_context(cafile=authority if own else None)
    if own and settings.client_cert is not None:
        check_certificate(settings.client_cert)
        context.load_cert_chain(settings.client_cert.cert, settings.client_cert.key)
    if not own and authority is not None:
        context.load_verify_locations(authority)
    return context
