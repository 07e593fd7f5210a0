"""The API, as commands that act use it."""

from pathlib import Path
from typing import Any

from controller import config as configuration
from controller.errors import RefusedError, RondelError, UnreachableError, UsageError
from controller.serve.address import socket_path

TIMEOUT_SECONDS = 30.0


class Client:
    """Talks to one controller over its socket."""

    def __init__(self, server: str | None, state: Path | None, config: Path | None) -> None:
        import httpx  # noqa: PLC0415 - 60 ms: only for commands that act

        if server is not None and "://" in server:
            raise UsageError(
                "only a Unix socket can be reached by this version",
                where="--server",
                remedy="write the path of the socket",
            )
        self._path = (
            Path(server) if server else socket_path(configuration.find_state_dir(state, config))
        )
        transport = httpx.HTTPTransport(uds=str(self._path))
        self._http = httpx.Client(
            transport=transport, base_url="http://rondel/api/v1", timeout=TIMEOUT_SECONDS
        )
        self._broken = httpx.TransportError

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        """Return the answer.

        Raises:
            UnreachableError: no controller answers there.
            UsageError, RefusedError: it said no.
        """
        try:
            response = self._http.post(path, json=body or {}, headers=headers)
        except self._broken as error:
            raise UnreachableError(
                f"no controller answers: {error}",
                where=str(self._path.parent.parent),
                remedy="start `rondel serve`, or name its directory by --state-dir",
            ) from error
        if response.is_success:
            return response.json()
        raise refusal(response.json())


def refusal(problem: dict[str, Any]) -> RondelError:
    kind = {404: UsageError, 422: UsageError, 409: RefusedError}.get(problem["status"], RondelError)
    return kind(problem["detail"], where=problem.get("where", ""), remedy=problem.get("remedy", ""))
