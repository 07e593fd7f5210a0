"""Plain scalars by YAML 1.2's core schema, as JSON can hold them."""

import re
from functools import lru_cache

from controller.model.workflow import Json

WORDS: dict[str, Json] = {"": None, "~": None, "null": None, "true": True, "false": False}
OTHER_WORDS: dict[str, Json] = {
    **dict.fromkeys(("Null", "NULL")),
    **dict.fromkeys(("True", "TRUE"), True),
    **dict.fromkeys(("False", "FALSE"), False),
}
NUMERIC_START = frozenset("+-.0123456789")
_INTEGER = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z", re.ASCII)
_NOT_JSON = re.compile(r"[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z")
_SMALLEST, _LARGEST = -(1 << 63), (1 << 63) - 1
_MOST_DIGITS = 25


class ScalarError(ValueError):
    """A number that JSON or 64 bits can't hold; the message says what to do."""


@lru_cache(maxsize=4096)
def resolve(text: str) -> Json:
    """Return the value of a plain scalar: null, a boolean, a number, else the text itself.

    Raises:
        ScalarError: a number outside 64 bits, an infinity or not-a-number.
    """
    if text in WORDS:
        return WORDS[text]
    if text in OTHER_WORDS:
        return OTHER_WORDS[text]
    return _number(text) if text[0] in NUMERIC_START else text


@lru_cache(maxsize=4096)
def canonical(text: str) -> bool:
    """Tell whether the value of a plain scalar, written as JSON, is this very text."""
    value = resolve(text)
    if isinstance(value, bool):
        return text in WORDS
    return isinstance(value, str) or value is None or repr(value) == text


def _number(text: str) -> Json:
    if _INTEGER.match(text):
        return _integer(text)
    if _FLOAT.match(text):
        return _finite(float(text), text)
    if _NOT_JSON.match(text):
        raise ScalarError(f"{text} has no value in JSON; quote it if text is meant")
    return text


def _integer(text: str) -> int:
    value = int(text, 0) if text[:2] in {"0o", "0x"} else int(text[:_MOST_DIGITS])
    if len(text) > _MOST_DIGITS or not _SMALLEST <= value <= _LARGEST:
        raise ScalarError("integers have 64 bits; quote a longer one to keep it as text")
    return value


def _finite(value: float, text: str) -> float:
    if value in {float("inf"), float("-inf")}:
        raise ScalarError(f"{text[:30]} is beyond a double; quote it to keep it as text")
    return value
