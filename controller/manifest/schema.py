"""The JSON Schemas of the manifests: their text, and the quick yes or no.

fastjsonschema turns a schema into code, once in a process and only when a file has to be parsed:
with everything in the parse cache it is never imported. `explain` says what a no means.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path as File
from typing import Any

from controller.manifest.formats import FORMATS, accepts
from controller.model.workflow import Json

KINDS = ("Workflow", "Agent", "Defaults")
CONFIGURATION = ("Config", "Dagger")
CLASSES = {  # what controller.model exports: each has its schema under its own name too
    "DaggerConfig": "dagger",
    "DaggerContainerConfig": "dagger-container",
    "AgentFramework": "agent-framework",
    "AgentCapability": "agent-capability",
}
FILES = {kind: kind.lower() for kind in (*KINDS, *CONFIGURATION)} | CLASSES
SHIPPED = tuple(FILES)
HINTS = frozenset({"pattern", "minLength", "maxLength"})  # for editors; the format decides
_ONLY_SHOWN = frozenset({"description", "title", "default", "errorMessage", "$id", "$schema"})


@cache
def text(kind: str) -> str:
    """Return the schema of `kind` ("Workflow", "Agent", "Defaults", "Config", ...) as JSON text.

    Raises:
        KeyError: there is no such kind.
    """
    name = f"{FILES[kind]}.schema.json"
    package = File(__file__).resolve().parent.parent
    shipped = package / "schemas" / name  # in the wheel; in a checkout they lie beside the package
    return (shipped if shipped.is_file() else package.parent / "schemas" / name).read_text("utf-8")


@cache
def document(kind: str) -> dict[str, Any]:
    """Return the schema of `kind` as a value; treat it as frozen."""
    return dict(json.loads(text(kind)))


@cache
def decider(kind: str) -> Callable[[Json], bool]:
    """Return a function that tells whether a document of `kind` fits its schema."""
    import fastjsonschema  # noqa: PLC0415 - 90 ms with compiling: not when the cache has it all

    validate = fastjsonschema.compile(
        slim(document(kind)),
        formats={name: accepts(check) for name, check in FORMATS.items()},
        use_default=False,
        detailed_exceptions=False,
    )

    def fits(value: Json) -> bool:
        try:
            validate(value)
        except fastjsonschema.JsonSchemaValueException:
            return False
        return True

    return fits


def slim(schema: Json) -> Json:
    """Return the schema without what only people read; a format decides where a pattern hints."""
    if isinstance(schema, list):
        return [slim(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: slim(value) for name, value in entry.items()} if _by_name(key) else slim(entry)
        for key, entry in schema.items()
        if key not in _ONLY_SHOWN and not ("format" in schema and key in HINTS)
    }


def _by_name(key: str) -> bool:
    return key in {"properties", "$defs"}
