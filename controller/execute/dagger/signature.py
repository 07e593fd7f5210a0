"""What a module's function takes and gives, as GraphQL says it; values that may be given to it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.errors import StalledError
from controller.model.workflow import Json

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
REFUSED = "ModuleArgument"
SCALARS: Mapping[str, type | tuple[type, ...]] = {
    "String": str,
    "Int": int,
    "Float": (int, float),
    "Boolean": bool,
}
"""All that a value may be given for: what other types stand for may be on a host."""

TYPE = "kind name " + "ofType { kind name " * 7 + "}" * 7
FIELDS = f"fields {{ name args {{ name defaultValue type {{ {TYPE} }} }} type {{ {TYPE} }} }}"
"""What to ask of `__type` for a module's functions."""
ROOTS = (
    "fields { name args { name defaultValue type { kind name } }"
    " type { kind name ofType { kind name } } }"
)
"""The same for all that a query can begin with: little of much, the whole would take seconds."""
UNKNOWN = {"kind": "OBJECT", "name": ""}  # deeper than that


@dataclass(frozen=True, slots=True)
class Type:
    """A type of GraphQL without its bangs; `required` is the outermost."""

    kind: str  # SCALAR, ENUM, LIST, OBJECT, ...
    name: str
    element: "Type | None"
    required: bool

    @property
    def plain(self) -> bool:
        """Tell whether a value of it is JSON."""
        if self.element is not None:
            return self.element.plain
        return self.kind == "ENUM" or (self.kind == "SCALAR" and self.name in {*SCALARS, "Void"})


@dataclass(frozen=True, slots=True)
class Function:
    """A field that a module has added."""

    name: str
    args: Mapping[str, Type]
    gives: Type


def a_type(data: Mapping[str, Any]) -> Type:
    required = data["kind"] == "NON_NULL"
    inner = data.get("ofType", UNKNOWN) if required else data
    element = a_type(inner.get("ofType", UNKNOWN)) if inner["kind"] == "LIST" else None
    return Type(inner["kind"], inner["name"] or "", element, required)


def functions(fields: Sequence[Mapping[str, Any]]) -> list[Function]:
    """Return what `FIELDS` has answered."""
    return [
        Function(
            one["name"],
            {arg["name"]: with_default(arg) for arg in one["args"]},
            a_type(one["type"]),
        )
        for one in fields
    ]


def with_default(arg: Mapping[str, Any]) -> Type:
    found = a_type(arg["type"])
    if arg["defaultValue"] is None:
        return found
    return Type(found.kind, found.name, found.element, required=False)


def same_name(one: str, other: str) -> bool:
    """Any spelling that a language gives a name is that name: check-all, check_all, checkAll."""
    return plain_name(one) == plain_name(other)


def plain_name(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()


def selection(function: Function, given: Mapping[str, Json]) -> str:
    """Return the call as GraphQL.

    Raises:
        StalledError: ModuleArgument, by its name.
    """
    found = {}
    for name, value in given.items():
        arg = next((known for known in function.args if same_name(known, name)), None)
        if arg is None:
            known = ", ".join(function.args) or "none"
            raise refused(name, f"{function.name} has no such argument; it has: {known}")
        found[arg] = literal(value, function.args[arg], name)
    for arg, wanted in function.args.items():
        if wanted.required and arg not in found:
            raise refused(arg, f"{function.name} needs it")
    if not found:
        return function.name
    return f"{function.name}({', '.join(f'{name}: {text}' for name, text in found.items())})"


def literal(value: Json, wanted: Type, name: str) -> str:
    """Return a value as GraphQL. Raises StalledError (ModuleArgument)."""
    if value is None and not wanted.required:
        return "null"
    if wanted.element is not None and isinstance(value, list):
        return f"[{', '.join(literal(one, wanted.element, name) for one in value)}]"
    if wanted.kind == "ENUM" and isinstance(value, str) and NAME.fullmatch(value):
        return value
    if wanted.kind == "SCALAR" and is_a(value, wanted.name):
        return json.dumps(value, ensure_ascii=False)
    if not wanted.plain:
        raise refused(name, f"values of type {wanted.name} can't be given, only plain ones")
    raise refused(name, f"{json.dumps(value)[:60]} is no {wanted.name or 'list'}")


def is_a(value: Json, name: str) -> bool:
    """Tell whether a value is of an allowed scalar; true and false are no numbers."""
    if isinstance(value, bool):
        return name == "Boolean"
    return name in SCALARS and isinstance(value, SCALARS[name])


def refused(argument: str, problem: str) -> StalledError:
    return StalledError(problem, where=f"argument {argument!r}", reason=REFUSED)
