"""Who may pass at the TCP listener: the right Host and Origin, a token, and its role."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse

from controller import digest
from controller.clock import Clock
from controller.errors import RondelError
from controller.model.token import Role, Token
from controller.serve.ports import Records
from controller.serve.problems import problem
from controller.serve.who import TOKEN

OPEN = frozenset({"/healthz", "/readyz"})
READING = frozenset({"GET", "HEAD", "OPTIONS"})
OPERATING = re.compile(
    r"/api/v1/(sources|runs)/.+/(reconcile|suspend|resume|runs|backfills|cancel|retry|rerun)"
    r"|/api/v1/plan"
)
App = Callable[[Any, Any, Any], Any]


class Gate:
    """Lets a request through to the API, or answers it. Webhooks pass: their signature is judged.

    `hosts` are names that the listener is called by. A page of another name that was made to
    resolve to us (DNS rebinding) is refused by its Host, one of another origin by its Origin.
    """

    def __init__(self, app: App, records: Records, clock: Clock, hosts: frozenset[str]) -> None:
        self._app = app
        self._records = records
        self._clock = clock
        self._hosts = hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        answer = None if is_open(scope) else await self._refusal(scope)
        await (answer or self._app)(scope, receive, send)

    async def _refusal(self, scope: Any) -> JSONResponse | None:
        headers = read_headers(scope)
        host = host_of(headers.get("host", ""))
        if not self._is_ours(host):
            detail = f"this listener isn't called {host!r}; add it to `hosts` if it shall be"
            return problem(403, "Wrong host", detail)
        if not same_origin(headers):
            return problem(403, "Wrong origin", "requests of other sites' pages are not taken")
        try:
            token = await self._token(headers.get("authorization", ""))
        except RondelError as error:
            return problem(503, type(error).__name__, error.problem)
        if token is None:
            answer = problem(401, "No valid token", "send `Authorization: Bearer TOKEN`")
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        needed = needs(scope["method"], scope["path"])
        if token.role < needed:
            return problem(403, "Role too small", f"this needs the role {needed.word}")
        scope[TOKEN] = token.name
        return None

    def _is_ours(self, host: str) -> bool:
        return host in self._hosts or is_address(host)

    async def _token(self, authorization: str) -> Token | None:
        """The hash is what is looked up, so the time that takes says nothing of a token."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        hashed = digest.sha256(token.strip())
        found = await self._records.read(lambda reader: reader.token(hashed))
        return found if found is not None and found.valid(self._clock.now()) else None


def is_open(scope: Any) -> bool:
    """Tell whether a request is for everybody: is it alive; or a webhook, which is signed."""
    if scope["type"] != "http":
        return True
    path, method = scope["path"], scope["method"]
    return (method == "GET" and path in OPEN) or (method == "POST" and path.startswith("/hooks/"))


def needs(method: str, path: str) -> Role:
    """Return the least role for a request; what nobody thought of is for admins."""
    if method in READING:
        return Role.VIEWER
    operating = method == "POST" and OPERATING.fullmatch(path)
    return Role.OPERATOR if operating else Role.ADMIN


def read_headers(scope: Any) -> Mapping[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def same_origin(headers: Mapping[str, str]) -> bool:
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def host_of(header: str) -> str:
    """Return the name in a Host header, without its port."""
    name = header.lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]


def is_address(host: str) -> bool:
    """Tell whether it is an IP address: no name, so nobody can make it resolve to us."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
