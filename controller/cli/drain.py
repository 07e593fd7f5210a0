"""`rondel drain`: before an engine or a machine is taken away."""

import time
from typing import Annotated, Any

import typer

from controller.cli.client import Client
from controller.cli.common import ConfigOption, ServerOption, StateOption
from controller.errors import RefusedError, UsageError

LOOK_SECONDS = 0.2


def drain(
    wait: Annotated[bool, typer.Option("--wait", help="Return when nothing runs.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Start runs again.")] = False,
    config: ConfigOption = None,
    state_dir: StateOption = None,
    server: ServerOption = None,
) -> None:
    """Start no run any more: those that run end, new ones wait for `--undo` or a restart.

    Example: rondel drain --wait
    """
    if wait and undo:
        raise UsageError("--undo has nothing to wait for", remedy="leave out --wait")
    client = Client(server, state_dir, config)
    now = client.post("/drain", {"undo": undo})
    print(told(now))
    if wait:
        await_empty(client, now)


def await_empty(client: Client, now: dict[str, Any]) -> None:
    """Return when nothing runs any more. Raises RefusedError when the drain was taken back."""
    if not now["running"]:
        return
    while now["running"]:
        time.sleep(LOOK_SECONDS)
        now = client.get("/drain")
        if not now["draining"]:
            raise RefusedError(
                "runs are started again: somebody took the drain back, or restarted the controller",
                remedy="rondel drain --wait",
            )
    print(told(now))


def told(now: dict[str, Any]) -> str:
    word = "draining" if now["draining"] else "not draining"
    return f"{word}: {now['running']} running, {now['waiting']} waiting"
