"""Functions of Dagger modules as steps: loaded at a commit, called with plain values."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller.errors import StalledError
from controller.execute.dagger import errors
from controller.execute.dagger.collect import export
from controller.execute.dagger.command import Address
from controller.execute.dagger.graphql import AnswerError, ask
from controller.execute.dagger.said import Listener
from controller.execute.dagger.signature import (
    FIELDS,
    ROOTS,
    Function,
    functions,
    same_name,
    selection,
)
from controller.execute.dagger.telemetry import Telemetry
from controller.execute.ports import AttemptRequest, Outcome, Output, Verdict
from controller.model.workflow import Json, ModuleCall

if TYPE_CHECKING:
    import dagger

RESULT = "result"  # the file that a plain value, or a file, is found by
FAILED = 1  # the exit code of a function that fails without one


class Modules:
    """The modules of one session: one commit of each name, as the engine has it."""

    def __init__(self, client: "dagger.Client", address: Address, telemetry: Telemetry) -> None:
        self._client = client
        self._address = address
        self._telemetry = telemetry
        self._loaded: dict[tuple[str, str], tuple[Function, list[Function]]] = {}
        self._loading = asyncio.Lock()  # to serve one changes the schema of all

    async def attempt(self, call: ModuleCall, request: AttemptRequest, output: Output) -> Outcome:
        """Call the function; what it gives is collected as if a step had written it.

        Raises:
            StalledError: ModuleFunction, ModuleArgument, ModuleResult.
            httpx.HTTPError: the session is gone.
        """
        with self._telemetry.trace(output) as listener:
            try:
                module, known = await self._load(call)
            except AnswerError as error:
                return not_loaded(str(error))
            function = chosen(call, known)
            below = "" if function.gives.plain else " { sync }"
            query = f"{selection(module, {})} {{ {selection(function, call.args)}{below} }}"
            try:
                answer = await ask(self._address, f"{{ {query} }}")
            except AnswerError as error:
                return await failed(error, listener, output)
            await listener.drain()
        value = answer[module.name][function.name]
        return Outcome(exit_code=0, collected=await self._collect(function, value, request, output))

    async def _load(self, call: ModuleCall) -> tuple[Function, list[Function]]:
        """Return the field that the module has added, and the functions below it."""
        async with self._loading:
            found = self._loaded.get((call.ref, call.version))
            if found is None:
                found = self._loaded[call.ref, call.version] = await self._serve(call)
            return found

    async def _serve(self, call: ModuleCall) -> tuple[Function, list[Function]]:
        source = (
            f"moduleSource(refString: {json.dumps(call.ref)}, "
            f"refPin: {json.dumps(call.version)}, requireKind: GIT_SOURCE)"
        )
        own = await engines_own(self._client)
        answer = await ask(self._address, f"{{ {source} {{ commit asModule {{ name serve }} }} }}")
        name, commit = answer["moduleSource"]["asModule"]["name"], answer["moduleSource"]["commit"]
        if commit != call.version:
            raise AnswerError(f"{call.ref} was found at {commit}", {})
        for one in await self._functions("Query", ROOTS):
            # Never a field of the engine's own, whatever a module is called: they reach the host.
            if one.name not in own and same_name(one.name, name):
                return one, await self._functions(one.gives.name, FIELDS)
        raise AnswerError(f"{call.ref} adds nothing that is called {name}", {})

    async def _functions(self, of_type: str, fields: str) -> list[Function]:
        answer = await ask(self._address, f'{{ __type(name: "{of_type}") {{ {fields} }} }}')
        return functions(answer["__type"]["fields"])

    async def _collect(
        self, function: Function, value: Any, request: AttemptRequest, output: Output
    ) -> Mapping[str, Path]:
        if function.gives.plain:
            return kept(value, request, output)
        found = {}
        for number, path in enumerate(request.collect):
            target = request.staging / str(number)
            if await self._export(function.gives.name, value["sync"], path, target):
                found[path] = target
        return found

    async def _export(self, kind: str, identity: str, path: str, target: Path) -> bool:
        import dagger  # noqa: PLC0415 - a second to import

        context = self._client._ctx.select_id(kind, identity)  # noqa: SLF001 - ids of raw answers
        if kind == "Directory":
            return await export(dagger.Directory(context), path, target)
        if path == RESULT:
            await dagger.File(context).export(str(target))
        return path == RESULT


async def engines_own(client: "dagger.Client") -> set[str]:
    """Return what a query could begin with when the SDK read the schema, before any module."""
    schema = await client._ctx.conn.session.get_schema()  # noqa: SLF001 - it keeps no other copy
    if schema.query_type is None:
        raise AnswerError("the engine's schema has no queries", {})
    return set(schema.query_type.fields)


def chosen(call: ModuleCall, known: list[Function]) -> Function:
    """Return the function that the call names. Raises StalledError."""
    where = f"{call.ref}@{call.version[:12]}"
    function = next((one for one in known if same_name(one.name, call.call)), None)
    if function is None:
        names = ", ".join(sorted(one.name for one in known if one.name != "id"))
        raise StalledError(
            f"there is no function {call.call!r}; there are: {names}",
            where=where,
            reason="ModuleFunction",
        )
    if not function.gives.plain and function.gives.name not in {"Directory", "File"}:
        raise StalledError(
            f"{function.name} gives a {function.gives.name or 'list of objects'}; a step can take"
            " a Directory, a File, or plain values",
            where=where,
            reason="ModuleResult",
        )
    return function


def kept(value: Json, request: AttemptRequest, output: Output) -> Mapping[str, Path]:
    """Write a plain value to the log, and to where it was asked for."""
    if value is None:
        return {}
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    data = text.encode("utf-8", "replace")
    output.write("stdout", data if text.endswith("\n") else data + b"\n")
    if RESULT not in request.collect:
        return {}
    target = request.staging / RESULT
    target.write_bytes(data)
    return {RESULT: target}


async def failed(error: AnswerError, listener: Listener, output: Output) -> Outcome:
    """Return the outcome of a function that said no, or that the engine could not run."""
    code, found = error.extensions.get("exitCode"), errors.outcome(str(error))
    if code is None and found.verdict is Verdict.TRANSIENT:
        return found
    said = (str(error.extensions.get(stream) or "") for stream in ("stdout", "stderr"))
    await listener.complete(*said)
    output.write("stderr", f"\n{error}\n".encode("utf-8", "replace"))
    return Outcome(exit_code=FAILED if code is None else int(code))


def not_loaded(text: str) -> Outcome:
    """Return the outcome of a module that can't be had."""
    found = errors.outcome(text)
    if found.verdict is Verdict.TRANSIENT:
        return found
    reason = "ModuleConflict" if "already exists with different source" in text else "ModuleInvalid"
    return Outcome(verdict=Verdict.STALLED, reason=reason, error=found.error)
