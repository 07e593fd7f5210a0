"""The API, as commands that act use it."""

from pathlib import Path
from typing import Any

from controller import config as configuration
from controller import environment
from controller.errors import RefusedError, RondelError, UnreachableError, UsageError
from controller.serve.address import socket_path

TIMEOUT_SECONDS = 30.0
TOKEN = "RONDEL_TOKEN"  # noqa: S105 - the variable that holds one


class Client:
    """Talks to one controller over its socket, or over its TCP address.

    `remote`: it is an address, so its store isn't here to look at.
    """

    def __init__(self, server: str | None, state: Path | None, config: Path | None) -> None:
        import httpx  # noqa: PLC0415 - 60 ms: only for commands that act

        self.remote = server is not None and "://" in server
        self._broken = httpx.TransportError
        if server is not None and self.remote:
            self._where = server
            self._remedy = "see that `rondel serve --listen` runs there"
            self._http = httpx.Client(
                base_url=api_of(server), headers=authorization(), timeout=TIMEOUT_SECONDS
            )
            return
        path = Path(server) if server else socket_path(configuration.find_state_dir(state, config))
        self._where = str(path.parent.parent)
        self._remedy = "start `rondel serve`, or name its directory by --state-dir"
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)),
            base_url="http://rondel/api/v1",
            timeout=TIMEOUT_SECONDS,
        )

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        """Return the answer.

        Raises:
            UnreachableError: no controller answers there.
            UsageError, RefusedError: it said no.
        """
        return self._ask("POST", path, json=body or {}, headers=headers)

    def get(self, path: str) -> Any:
        """Return what is there; raises as `post` does."""
        return self._ask("GET", path)

    def _ask(self, method: str, path: str, **given: Any) -> Any:
        try:
            response = self._http.request(method, path, **given)
        except self._broken as error:
            raise UnreachableError(
                f"no controller answers: {error}", where=self._where, remedy=self._remedy
            ) from error
        kind = response.headers.get("content-type", "")
        if response.is_success and kind.startswith("application/json"):
            return response.json()
        if kind.startswith("application/problem+json"):
            raise refusal(response.json())
        raise UnreachableError(
            f"something else answers, with {response.status_code}",
            where=self._where,
            remedy=self._remedy,
        )


def api_of(server: str) -> str:
    scheme, _, rest = server.partition("://")
    if scheme not in {"http", "https"} or not rest:
        raise UsageError(
            f"{server!r} is no address of a controller",
            where="--server",
            remedy="write https://HOST:PORT, or the path of its socket",
        )
    return f"{server.rstrip('/')}/api/v1"


def authorization() -> dict[str, str]:
    token = environment.get(TOKEN)
    if token is None:
        raise UsageError(
            f"{TOKEN} is not set",
            where="--server",
            remedy="set it to a token of `rondel token create`, made where the controller runs",
        )
    return {"Authorization": f"Bearer {token}"}


def refusal(problem: dict[str, Any]) -> RondelError:
    kind = {404: UsageError, 422: UsageError, 409: RefusedError}.get(problem["status"], RondelError)
    return kind(problem["detail"], where=problem.get("where", ""), remedy=problem.get("remedy", ""))
