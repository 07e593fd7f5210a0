"""`${{ }}`: the only place that knows CEL. It is imported when the first expression is compiled.

Time and memory are bounded: an expression has 4,096 characters, the library gives each evaluation
a budget of 10,000 iterations in all its macros, and regular expressions run in linear time.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from math import isfinite
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from controller.errors import StalledError
from controller.manifest.template import Name, TemplateError, names, references, split, written
from controller.model.run import Run
from controller.model.workflow import Json

__all__ = [
    "Checked",
    "ExpressionError",
    "as_text",
    "check",
    "evaluate",
    "references",
    "render",
    "run_scope",
]

Scope = Mapping[str, Any]
"""Top-level names (params, run, steps, inputs, workflow, ...) -> plain values, by name."""

_MISSING = object()
_NAME_ONLY = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*\Z", re.ASCII)
_WHERE = re.compile(r"(?:[A-Z_]+: )?ERROR: <input>:-?\d+:(-?\d+): (.*)")
_CONTAINER = re.compile(r" \(in container '[^']*'\)")


class ExpressionError(StalledError):
    """An expression that gives no value; retrying can't help."""

    def __init__(self, problem: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(problem, reason="ExpressionFailed", where=where, remedy=remedy)


class Checked(NamedTuple):
    """What compiling said: a problem, or the type of the result ("dyn" when it isn't known)."""

    problem: str
    type: str


@cache
def _cel() -> Any:
    # Imported late: 30 ms and 10 MiB, and only manifests with expressions need it.
    from cel_expr_python import cel  # type: ignore[import-untyped] # noqa: PLC0415 - see above

    return cel


@cache
def _types() -> dict[str, Any]:
    kind = _cel().Type
    return {
        "string": kind.STRING,
        "integer": kind.INT,
        "number": kind.DOUBLE,
        "boolean": kind.BOOL,
        "timestamp": kind.TIMESTAMP,
        "list": kind.List(kind.DYN),
        "object": kind.Map(kind.STRING, kind.DYN),
        "labels": kind.Map(kind.STRING, kind.STRING),
        "dyn": kind.DYN,
    }


@lru_cache(maxsize=256)
def _environment(declared: tuple[tuple[Name, str], ...]) -> Any:
    variables = {".".join(name): _types()[type_] for name, type_ in declared}
    return _cel().NewEnv(variables=variables)


@lru_cache(maxsize=4096)
def _compiled(expression: str, declared: tuple[tuple[Name, str], ...]) -> Any:
    return _environment(declared).compile(expression)


@lru_cache(maxsize=4096)
def _checked(expression: str, declared: tuple[tuple[Name, str], ...]) -> Checked:
    try:
        result = _compiled(expression, declared).return_type()
    except (RuntimeError, TypeError) as error:
        return Checked(_told(error), "dyn")
    return Checked("", next((name for name, one in _types().items() if one == result), "dyn"))


def check(expression: str, types: Mapping[Name, str]) -> Checked:
    """Compile one expression (without its braces) against the types of the names it uses.

    Args:
        expression: CEL text.
        types: a type for each name that the expression uses: string, integer, number, boolean,
            list, object, labels, timestamp or dyn. Others are not looked at.
    """
    used = names(expression)
    if _NAME_ONLY.match(expression) and len(used) == 1:
        name = tuple(expression.split("."))
        if name in types:
            return Checked("", types[name])
    return _checked(expression, tuple(sorted((name, types[name]) for name in used)))


def _told(error: Exception) -> str:
    """Return the library's message without its frame: the first problem, and its column."""
    found = _WHERE.search(str(error))
    if found is None:
        return str(error).splitlines()[0].removesuffix(" [INTERNAL]").removeprefix("INTERNAL: ")
    told = _CONTAINER.sub("", found[2]).partition(" expecting ")[0]
    return told if found[1] == "-1" else f"{told} (character {found[1]})"


def evaluate(text: str, scope: Scope) -> Json:
    """Return `text` with its expressions evaluated.

    A text that is one expression and nothing else keeps the type of its result; inside a longer
    text strings stand as they are and other values as their JSON text.

    Args:
        text: any text; one without `${{` is returned as it is.
        scope: values by name; `-` in a name may be written `_`. A name without a value is an error
            only where the expression comes to use it.

    Raises:
        ExpressionError: it doesn't compile, uses a value that isn't there, or has no JSON result.
    """
    try:
        pieces = split(text)
    except TemplateError as error:
        raise ExpressionError(str(error), where=text[:80]) from None
    if len(pieces) == 1 and pieces[0].expression:
        return _evaluate(pieces[0].text, scope)
    return "".join(as_text(_evaluate(p.text, scope)) if p.expression else p.text for p in pieces)


def as_text(value: Json) -> str:
    """Return text as it is, any other value as its JSON text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def render(value: Json, scope: Scope) -> Json:
    """Return a JSON value with every string in it evaluated; keys are left alone.

    Raises:
        ExpressionError: as `evaluate`.
    """
    if isinstance(value, str):
        return evaluate(value, scope)
    if isinstance(value, Mapping):
        return {key: render(item, scope) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [render(item, scope) for item in value]
    return value


def _evaluate(expression: str, scope: Scope) -> Json:
    used = sorted(names(expression))
    data = {".".join(name): found for name in used if (found := _find(scope, name)) is not _MISSING}
    try:
        program = _compiled(expression, tuple((name, _type_of(name, data)) for name in used))
        result = program.eval(data=data)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ExpressionError(_told(error), where=expression[:80]) from None
    if result.type() == _cel().Type.ERROR:
        raise ExpressionError(_reason(result.plain_value()), where=expression[:80])
    return _json(result.plain_value(), expression)


def _type_of(name: Name, data: Mapping[str, Any]) -> str:
    """Everything is dynamic but times: the library takes those only where they are declared."""
    return "timestamp" if isinstance(data.get(".".join(name)), datetime) else "dyn"


def _reason(told: Any) -> str:
    kind, _, text = str(told).partition(": ")
    return text if text and kind.isupper() else str(told)


def _find(scope: Any, name: Name) -> Any:
    for part in name:
        scope = _member(scope, part)
        if scope is _MISSING:
            return _MISSING
    return _cel_value(scope, name)


def _member(value: Any, part: str) -> Any:
    if not isinstance(value, Mapping):
        return _MISSING
    if part in value:
        return value[part]
    return next((item for key, item in value.items() if written(str(key)) == part), _MISSING)


def _cel_value(value: Any, name: Name) -> Any:
    if name == ("run", "scheduledTime") and isinstance(value, str):
        return datetime.fromisoformat(value)
    if isinstance(value, Mapping):
        return {key: _cel_value(item, ()) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cel_value(item, ()) for item in value]
    return str(value) if isinstance(value, str) else value  # an enum's member is its text


def _json(value: Any, expression: str) -> Json:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, list):
        return [_json(item, expression) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _json(item, expression) for key, item in value.items()}
    raise ExpressionError(f"the result {str(value)[:40]} has no JSON form", where=expression[:80])


def run_scope(run: Run) -> dict[str, Any]:
    """Return `run` as expressions see it; `date` is in the zone of its schedule."""
    return {
        "id": run.id,
        "trigger": str(run.trigger),
        "source": run.source,
        "revision": run.revision,
        "scheduledTime": run.logical_time,
        "date": run.logical_time.astimezone(ZoneInfo(run.time_zone)).date().isoformat(),
        "fresh": run.fresh,
        "phase": str(run.phase),
    }
