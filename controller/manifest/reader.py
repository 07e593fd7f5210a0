"""The fast pass: bytes -> plain values, from libyaml's event stream.

It reads what nearly every manifest is made of. Whatever needs a second look (an alias, a tag, a
repeated key, text that doesn't parse) raises `IntricateError`, and `tree` reads the file again
with positions: it knows the right value, or says what is wrong.
"""

from typing import Any, NamedTuple

from yaml import YAMLError
from yaml._yaml import CParser
from yaml.events import (
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from controller.manifest.scalar import (
    NUMERIC_START,
    OTHER_WORDS,
    WORDS,
    ScalarError,
    canonical,
    resolve,
)
from controller.model.workflow import Json

MAX_DEPTH = 100
MAX_DOCUMENTS = 1000
MAX_BYTES = 1 << 20
_TEXT_KEYS = {str}


class Document(NamedTuple):
    """One document's value and the line it begins at (from 1)."""

    line: int
    value: Json


class IntricateError(Exception):
    """The fast pass can't vouch for this file."""


def read(data: bytes) -> list[Document]:
    """Return every document of the file.

    Raises:
        IntricateError: read it with `tree` instead.
    """
    try:
        return _documents(CParser(data))
    except (YAMLError, ScalarError) as error:
        raise IntricateError from error


def _documents(parser: Any) -> list[Document]:  # noqa: C901, PLR0915 - the hot loop
    documents: list[Document] = []
    next_event = parser.get_event
    items: list[Json] = []
    stack: list[list[Json]] = []
    line = 1
    while True:
        event = next_event()
        kind = type(event)
        if kind is ScalarEvent:
            if event.tag is not None or event.anchor is not None:
                raise IntricateError
            items.append(_plain(event.value) if event.implicit[0] else _quoted(event.value))
        elif kind is MappingStartEvent or kind is SequenceStartEvent:
            if event.tag is not None or event.anchor is not None or len(stack) >= MAX_DEPTH:
                raise IntricateError
            stack.append(items)
            items = []
        elif kind is MappingEndEvent:
            mapping = _mapping(items)
            items = stack.pop()
            items.append(mapping)
        elif kind is SequenceEndEvent:
            sequence = items
            items = stack.pop()
            items.append(sequence)
        elif kind is DocumentStartEvent:
            line = event.start_mark.line + 1
        elif kind is DocumentEndEvent:
            documents.append(Document(line, items.pop()))
        elif kind is StreamEndEvent:
            break
        elif kind is not StreamStartEvent:
            raise IntricateError
    if len(documents) > MAX_DOCUMENTS:
        raise IntricateError
    return documents


def _mapping(items: list[Json]) -> dict[str, Json]:
    keys = items[::2]
    mapping = dict(zip(keys, items[1::2], strict=True)) if _hashable(keys) else {}
    if len(mapping) != len(keys) or "<<" in mapping:
        raise IntricateError
    return mapping


def _hashable(keys: list[Json]) -> bool:
    return not keys or set(map(type, keys)) == _TEXT_KEYS


def _plain(text: str) -> Json:
    if text in WORDS:
        return WORDS[text]
    if text[0] in NUMERIC_START or text in OTHER_WORDS:
        if not canonical(text):
            raise IntricateError  # `env` must be able to ask how it was written
        return resolve(text)
    return text


def _quoted(text: str) -> str:
    if "\0" in text:
        raise IntricateError
    return text
