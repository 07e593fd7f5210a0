"""Plain GraphQL to a session: what a module adds is not in the schema that the SDK has read."""

from collections.abc import Mapping
from typing import Any

from controller.execute.dagger.command import Address

REFUSED = 422  # the status of a query that doesn't fit the schema; its words are in the answer


class AnswerError(Exception):
    """The engine's answer is an error; `extensions` tells more of a command that failed."""

    def __init__(self, message: str, extensions: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.extensions = extensions


async def ask(address: Address, query: str) -> Any:
    """Return the answer's data. Cancelled, the engine stops what it does for it.

    Raises:
        AnswerError: the engine's own.
        httpx.HTTPError: the session is gone.
    """
    import httpx  # noqa: PLC0415 - comes with the SDK
    from opentelemetry import propagate  # noqa: PLC0415 - comes with the SDK

    headers: dict[str, str] = {}
    propagate.inject(headers)  # its lines are known by the trace
    quiet = httpx.Timeout(10, read=None)  # a function may run for hours
    auth = (address.token, "")
    async with httpx.AsyncClient(timeout=quiet, auth=auth, trust_env=False) as client:
        url = f"http://127.0.0.1:{address.port}/query"
        response = await client.post(url, json={"query": query}, headers=headers)
    if response.status_code != REFUSED:
        response.raise_for_status()
    answer = response.json()
    for error in answer.get("errors") or ():
        raise AnswerError(error["message"], error.get("extensions") or {})
    return answer["data"]
