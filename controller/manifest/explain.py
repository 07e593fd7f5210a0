"""Schema faults in people's words, all of a document at once. jsonschema finds them.

Imported only for documents that the quick decider refused.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from jsonschema.exceptions import relevance

from controller.manifest import schema
from controller.manifest.finding import Finding, Path
from controller.manifest.formats import FORMATS
from controller.manifest.names import nearest
from controller.model.workflow import Json

_TYPES = {
    "string": "text",
    "object": "a mapping",
    "array": "a list",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


@cache
def _validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(_without_hints(kind), format_checker=_formats())


def _without_hints(kind: str) -> Any:
    """The schema without patterns that only hint at what a format decides."""
    return _strip(schema.document(kind))


def _strip(value: Any) -> Any:
    if isinstance(value, dict):
        hinted = "format" in value
        return {k: _strip(v) for k, v in value.items() if not (hinted and k in schema.HINTS)}
    return [_strip(item) for item in value] if isinstance(value, list) else value


def _formats() -> FormatChecker:
    checker = FormatChecker(formats=())
    for name, check in FORMATS.items():
        checker.checks(name, raises=ValueError)(_as_checker(check))
    return checker


def _as_checker(check: Any) -> Any:
    def passes(value: object) -> bool:
        if isinstance(value, str):
            check(value)
        return True

    return passes


def explain(kind: str, document: Json) -> Iterator[Finding]:
    """Yield every fault of the document against the schema of `kind`."""
    for error in _validator(kind).iter_errors(document):
        yield from _findings(error)


def _rule(error: ValidationError) -> Any:
    return error.validator_value


def _given(error: ValidationError) -> Any:
    return error.instance


def _findings(error: ValidationError) -> Iterator[Finding]:
    path: Path = tuple(error.absolute_path)
    words = error.schema.get("errorMessage") if isinstance(error.schema, dict) else None
    if error.validator in {"anyOf", "oneOf"} and words:
        yield from _choice(error, path, words)
    elif error.validator == "not" and words:
        yield Finding(path, words["problem"], words["remedy"])
    elif error.validator == "additionalProperties" and _rule(error) is False:
        yield from _unknown_keys(error, path)
    elif error.validator == "required":
        yield from _missing(error, path)
    else:
        yield _finding(error, path)


def _choice(error: ValidationError, path: Path, words: dict[str, str]) -> Iterator[Finding]:
    """Explain the branch that fits best when it is about what is inside, else say the choice."""
    inside = [sub for sub in error.context or () if sub.path]
    if inside:
        yield from _findings(max(inside, key=relevance))
    else:
        yield Finding(path, words["problem"], words["remedy"])


def _unknown_keys(error: ValidationError, path: Path) -> Iterator[Finding]:
    known = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
    for key in _given(error):
        if key in known:
            continue
        yield Finding((*path, key), f"unknown key {key!r}", nearest(key, known), at_key=True)


def _missing(error: ValidationError, path: Path) -> Iterator[Finding]:
    # jsonschema reports each missing key by itself, naming it in its message alone
    missing = [key for key in _rule(error) if error.message.startswith(repr(key))]
    for key in missing:
        yield Finding(path, f"`{key}` is missing", f"add `{key}`")


def _finding(error: ValidationError, path: Path) -> Finding:
    explained = _EXPLAIN.get(str(error.validator))
    if explained is None:
        return Finding(path, error.message, "")
    return Finding(path, *explained(error))


def _format(error: ValidationError) -> tuple[str, str]:
    cause = error.cause
    return getattr(cause, "problem", str(cause)), getattr(cause, "remedy", "")


def _type(error: ValidationError) -> tuple[str, str]:
    wanted = _rule(error)
    listed = " or ".join(_TYPES[one] for one in ([wanted] if isinstance(wanted, str) else wanted))
    return f"expected {listed}, found {_shown(_given(error))}", _type_remedy(wanted, _given(error))


def _type_remedy(wanted: Any, found: Any) -> str:
    scalar = isinstance(found, (bool, int, float))
    if scalar and wanted == "string":
        return "quote it"
    if found is None:
        return "write a value, or remove the key"
    return f"write {_EXAMPLES.get(wanted, 'another value')}" if isinstance(wanted, str) else ""


_EXAMPLES = {
    "array": "a list, as [a, b]",
    "object": "a mapping, as {key: value}",
    "integer": "a whole number without quotes",
    "number": "a number without quotes",
    "boolean": "true or false without quotes",
    "string": "one text",
}


def _enum(error: ValidationError) -> tuple[str, str]:
    allowed = [str(one) for one in _rule(error)]
    found = _given(error) if isinstance(_given(error), str) else ""
    close = nearest(found, allowed)
    remedy = close if close.startswith("did") else f"use {', '.join(allowed)}"
    return f"{_shown(_given(error))} is not one of {', '.join(allowed)}", remedy


def _bound(word: str) -> Any:
    def words(error: ValidationError) -> tuple[str, str]:
        limit = f"{_rule(error):,}"
        return f"{_shown(_given(error))} is {word} {limit}", f"the limit is {limit}"

    return words


def _too_many(error: ValidationError) -> tuple[str, str]:
    problem = f"{len(_given(error)):,} entries are more than {_rule(error):,}"
    return problem, f"the limit is {_rule(error):,}"


def _empty(error: ValidationError) -> tuple[str, str]:
    return f"{_shown(_given(error))} is empty", "write a value, or remove the key"


def _unique(_: ValidationError) -> tuple[str, str]:
    return "an entry is given twice", "keep one of them"


_EXPLAIN = {
    "format": _format,
    "type": _type,
    "enum": _enum,
    "minimum": _bound("below"),
    "maximum": _bound("above"),
    "maxItems": _too_many,
    "minItems": _empty,
    "minLength": _empty,
    "minProperties": _empty,
    "uniqueItems": _unique,
}


def _shown(value: Json) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = {None: "null", True: "true", False: "false"}.get(value) if _is_word(value) else None
    shown = text or repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."  # noqa: PLR2004 - one line of it


def _is_word(value: Json) -> bool:
    return value is None or isinstance(value, bool)
