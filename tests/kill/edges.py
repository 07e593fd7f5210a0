"""Every edge of state, named by the code itself, so that a new one can't be forgotten.

- `change:X`: each entry of the store's table of changes: before it, applied, committed;
- `transaction:F`: each function that has the store write: before, and once it is committed;
- `port:P.m`: each method of the run engine's protocols: before and after;
- `keeper:f`: what the daemon asks of the keeper, and hears of it: before and after;
- `effect:E@f`: each file that the controller makes, names or removes, each process it starts, by
  the function that does so: before it. These are found by running, through Python's audit events.
"""

import ast
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import controller
from controller.execute import companions, keeper, logs, ports
from controller.execute.local.executor import LocalExecutor, LocalSession
from controller.loading import Loading
from controller.model import changes
from controller.recorder import Recorder
from controller.secrets import ConfiguredSecrets
from controller.store import apply, blobs, store
from tests.kill.switch import Switch

HOUSE = str(Path(controller.__file__).parent)

IMPLEMENTED: dict[type, tuple[type, ...]] = {
    ports.Ledger: (Recorder,),
    ports.Blobs: (blobs.BlobStore,),
    ports.Results: (store.Store,),
    ports.KeptInputs: (store.Store,),
    ports.Inputs: (Loading,),
    ports.Secrets: (ConfiguredSecrets,),
    ports.Output: (logs.LogSegment, companions.WholeLines),
    ports.Session: (LocalSession,),
    ports.Executor: (LocalExecutor,),
}
"""Who stands behind each protocol of the run engine in a daemon with the local executor."""

OF_THE_KEEPER = (
    (keeper.Keeper, "start"),
    (keeper.Keeper, "stop"),
    (keeper.Keeper, "spawn"),
    (keeper.Keeper, "_note"),  # a step was forked, or has ended
    (keeper.Child, "terminate"),
    (keeper.Child, "kill"),
)

EFFECTS = frozenset(
    [
        "os.rename",
        "os.link",
        "os.symlink",
        "os.remove",
        "os.mkdir",
        "os.rmdir",
        "os.truncate",
        "os.chmod",
        "os.chown",
        "os.utime",
        "os.posix_spawn",
        "os.exec",
        "os.fork",
        "subprocess.Popen",
        "socket.bind",
        "socket.sendmsg",
    ]
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

UNREACHED = {
    "change:DropSource": "no source leaves the configuration here; tests/e2e/test_reload.py has it",
    "change:DropToken": "a person's command; it is one transaction of its own",
    "change:OvertakeCommits": "no source here has commits; tests/e2e/test_statuses.py has them",
    "change:PutCommitStatus": "as above; tests/e2e/test_statuses.py kills after it",
    "change:PutSuspension": "a person's command; tests/e2e/test_suspend.py kills after it",
    "change:PutToken": "a person's command; it is one transaction of its own",
    "change:TakeDelivery": "no webhook comes here; tests/e2e/test_webhooks.py kills after it",
    "change:RecordEvent": "nobody records it",
    "port:Blobs.get": "a log is replayed only to who watches a run of his own command",
    "port:Blobs.put": "only the dagger executor has bytes that are no file",
    "transaction:Outbox.drop_words": "nobody takes a word here; tests/e2e/test_alerts.py has one",
    "transaction:Outbox.note_said": "no source here has commits; tests/e2e/test_statuses.py has them",
    "transaction:Store.parsed": "the parse cache is stamped when it was not used for a day",
}
"""Edges that this world of workflows doesn't come to, and why."""


# Which there are.


def named() -> tuple[str, ...]:
    """Return the edges that are known before anything runs."""
    return (*of_changes(), *of_transactions(), *of_ports(), *of_the_keeper())


def of_changes() -> Iterator[str]:
    for kind in apply._APPLY:
        yield from (f"change:{kind.__name__}:{at}" for at in ("before", "applied", "committed"))


def of_transactions() -> Iterator[str]:
    for function in writers():
        yield from (f"transaction:{function}:{at}" for at in ("before", "committed"))


def of_ports() -> Iterator[str]:
    for protocol in IMPLEMENTED:
        for method in methods(protocol):
            yield from (f"port:{protocol.__name__}.{method}:{at}" for at in ("before", "after"))


def of_the_keeper() -> Iterator[str]:
    for kind, method in OF_THE_KEEPER:
        yield from (f"keeper:{kind.__name__}.{method}:{at}" for at in ("before", "after"))


def protocols() -> set[type]:
    found = vars(ports).values()
    return {one for one in found if inspect.isclass(one) and Protocol in one.__bases__}


def methods(protocol: type) -> list[str]:
    return [name for name, one in vars(protocol).items() if name[0] != "_" and callable(one)]


def writers() -> list[str]:
    """Return the functions of the controller that have the store write: `Store.housekeep`."""
    found = []
    for path in sorted(Path(HOUSE).rglob("*.py")):
        tree = ast.parse(path.read_text())
        found += [name for name, function in functions(tree) if writes(function)]
    return found


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")


def writes(function: ast.AST) -> bool:
    """Tell whether a function awaits `<a store>.write(...)`."""
    for node in ast.walk(function):
        if isinstance(node, ast.Await) and isinstance(node.value, ast.Call):
            called = ast.unparse(node.value.func)
            if called in {"self.write", "store.write", "self.store.write", "self._store.write"}:
                return True
    return False


# Watching them.


def watch(switch: Switch) -> None:
    """Have the switch told of every edge that this process comes to."""
    watch_changes(switch)
    store.Store.write = noted_writing(switch, store.Store.write)  # type: ignore[method-assign]
    for protocol, kinds in IMPLEMENTED.items():
        for kind in kinds:
            for method in methods(protocol):
                surround(switch, kind, method, f"port:{protocol.__name__}.{method}")
    for kind, method in OF_THE_KEEPER:
        surround(switch, kind, method, f"keeper:{kind.__name__}.{method}")
    sys.addaudithook(functools.partial(note_effect, switch))


def watch_changes(switch: Switch) -> None:
    pending: list[str] = []
    for kind, function in apply._APPLY.items():
        apply._APPLY[kind] = noted_change(switch, kind.__name__, function, pending)
    opening = vars(store)["open_for_writing"]

    def watched(*words: Any, **named: Any) -> Watched:
        return Watched(opening(*words, **named), switch, pending)

    vars(store)["open_for_writing"] = watched


def noted_change(
    switch: Switch, name: str, function: Callable[..., bool], pending: list[str]
) -> Callable[..., bool]:
    def noted(tx: Any, change: changes.Change) -> bool:
        switch.hit(f"change:{name}:before")
        applied = function(tx, change)
        pending.append(name)
        switch.hit(f"change:{name}:applied")
        return applied

    return noted


class Watched:
    """The writer's connection, which tells of the changes that a commit made last."""

    def __init__(self, connection: Any, switch: Switch, pending: list[str]) -> None:
        self._connection, self._switch, self._pending = connection, switch, pending

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, text: str, *values: Any) -> Any:
        done = self._connection.execute(text, *values)
        if text in {"COMMIT", "ROLLBACK"}:
            committed, self._pending[:] = self._pending[:], []
            for name in committed if text == "COMMIT" else ():
                self._switch.hit(f"change:{name}:committed")
        return done


def noted_writing(switch: Switch, function: Callable[..., Any]) -> Callable[..., Any]:
    def noted(self: store.Store, call: Any) -> Any:
        name = sys._getframe(1).f_code.co_qualname
        return writing(self, call, f"transaction:{name}")

    async def writing(self: store.Store, call: Any, name: str) -> Any:
        switch.hit(f"{name}:before")
        done = await function(self, call)
        switch.hit(f"{name}:committed")
        return done

    return noted


def surround(switch: Switch, kind: type, method: str, name: str) -> None:
    function = getattr(kind, method)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def noted(*words: Any, **named: Any) -> Any:
            switch.hit(f"{name}:before")
            done = await function(*words, **named)
            switch.hit(f"{name}:after")
            return done
    else:

        @functools.wraps(function)
        def noted(*words: Any, **named: Any) -> Any:
            switch.hit(f"{name}:before")
            done = function(*words, **named)
            switch.hit(f"{name}:after")
            return done

    setattr(kind, method, noted)


def note_effect(switch: Switch, event: str, words: tuple[Any, ...]) -> None:
    if event in EFFECTS or (event == "open" and is_writing(words)):
        where = inside(sys._getframe(1))
        if where is not None:
            switch.hit(f"effect:{event}@{where}")


def is_writing(words: tuple[Any, ...]) -> bool:
    flags = words[2]
    return isinstance(flags, int) and bool(flags & WRITING) and words[0] != os.devnull


def inside(frame: FrameType | None) -> str | None:
    """Return the nearest function of the controller on the stack, as `store.blobs.BlobStore.keep`."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(HOUSE):
            module = code.co_filename[len(HOUSE) + 1 : -len(".py")].replace("/", ".")
            return None if code.co_name == "<module>" else f"{module}.{code.co_qualname}"
        frame = frame.f_back
    return None
