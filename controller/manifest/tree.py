"""The explaining pass: bytes -> nodes that know their line and column, and the reader's faults.

It is read only for files that the fast pass can't vouch for, or that have a fault. It keeps going
after a fault, but for text that is no YAML at all.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from yaml import YAMLError
from yaml._yaml import CParser
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingStartEvent,
    ScalarEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from controller.manifest.finding import Finding, Path
from controller.manifest.reader import MAX_DEPTH, MAX_DOCUMENTS
from controller.manifest.scalar import ScalarError, canonical, resolve
from controller.model.workflow import Json

MAX_ALIASED = 10_000  # values that a document's aliases may bring
_MACRO = re.compile(r"@(?:reboot|every|[a-z]+ly|midnight)\b")


class Place(NamedTuple):
    """Line and column, from 1."""

    line: int
    column: int


@dataclass(slots=True, eq=False)
class Node:
    """A scalar, a mapping (`pairs`) or a sequence (`items`), and what is wrong with it itself."""

    place: Place
    value: Json = None  # of a scalar
    pairs: "list[tuple[Node, Node]] | None" = None
    items: "list[Node] | None" = None
    problem: str = ""
    remedy: str = ""
    canonical: bool = True  # a scalar that JSON would write just so
    size: int = 1  # with all below, aliases counted each time
    height: int = 1
    open: bool = True  # until all its children are read

    @property
    def key(self) -> str | None:
        """The node as a mapping's key; None when it is not text."""
        return self.value if isinstance(self.value, str) and not self.problem else None


@dataclass(slots=True)
class Tree:
    """One document: its nodes and the line it begins at."""

    line: int
    root: Node


@dataclass(slots=True)
class Forest:
    """Every document of a file, and why reading stopped early, if it did."""

    trees: list[Tree] = field(default_factory=list)
    stopped: "tuple[Place, str, str] | None" = None  # place, problem, remedy


def read(data: bytes) -> Forest:
    """Return the documents of the file as nodes. Never raises for what the bytes are."""
    forest = Forest()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        place = Place(before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        forest.stopped = (place, "the text is not UTF-8", "save the file as UTF-8")
        return forest
    try:
        _Composer(CParser(data), forest).compose()
    except YAMLError as error:
        forest.stopped = _syntax_fault(error, text)
    except _StoppedError as error:
        forest.stopped = (_place(error.event), error.problem, error.remedy)
    return forest


class _StoppedError(Exception):
    """A bound of the whole file is passed: nothing after it is read."""

    def __init__(self, event: Any, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.event, self.problem, self.remedy = event, problem, remedy


class _Composer:
    """Builds nodes with a stack of its own, so that no nesting can end the process."""

    def __init__(self, parser: Any, forest: Forest) -> None:
        self.parser, self.forest = parser, forest
        self.stack: list[Node] = []
        self.keys: list[Node | None] = []  # of each open mapping, the key that waits for its value
        self.anchors: dict[str, Node] = {}
        self.aliased = 0
        self.line = 1

    def compose(self) -> None:
        while not isinstance(event := self.parser.get_event(), StreamEndEvent):
            if isinstance(event, DocumentStartEvent):
                if len(self.forest.trees) >= MAX_DOCUMENTS:
                    problem = f"a file has {MAX_DOCUMENTS:,} documents at most"
                    raise _StoppedError(event, problem, "split it")
                self.line, self.anchors, self.aliased = _place(event).line, {}, 0
            elif isinstance(event, CollectionStartEvent) and len(self.stack) >= MAX_DEPTH:
                problem = f"values are nested deeper than {MAX_DEPTH}"
                raise _StoppedError(event, problem, "write it flatter")
            elif not isinstance(event, (StreamStartEvent, DocumentEndEvent)):
                self._take(event)

    def _take(self, event: Any) -> None:
        if isinstance(event, ScalarEvent):
            self._place(_scalar(event), event.anchor)
        elif isinstance(event, AliasEvent):
            self._place(self._alias(event), None)
        elif isinstance(event, CollectionStartEvent):
            self._open(event)
        else:
            self._close()

    def _open(self, event: Any) -> None:
        node = _checked(Node(_place(event)), event)
        if isinstance(event, MappingStartEvent):
            node.pairs = []
        else:
            node.items = []
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        self.stack.append(node)
        self.keys.append(None)

    def _close(self) -> None:
        node = self.stack.pop()
        self.keys.pop()
        node.open = False
        self._place(node, None)

    def _place(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self.anchors[anchor] = node
        if not self.stack:
            self.forest.trees.append(Tree(self.line, node))
            return
        parent = self.stack[-1]
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)
        if parent.items is not None:
            parent.items.append(node)
        elif (key := self.keys[-1]) is None:
            self.keys[-1] = node
        else:
            self.keys[-1] = None
            pairs: list[tuple[Node, Node]] = parent.pairs or []
            pairs.append((key, node))
            parent.pairs = pairs

    def _alias(self, event: Any) -> Node:
        target = self.anchors.get(event.anchor)
        if target is None:
            return _broken(event, f"*{event.anchor} names no anchor before it", "quote it if text")
        if target.open and (target.pairs is not None or target.items is not None):
            return _broken(event, f"*{event.anchor} holds itself", "write the value out")
        self.aliased += target.size
        if self.aliased > MAX_ALIASED or len(self.stack) + target.height > MAX_DEPTH:
            problem = f"aliases bring more than {MAX_ALIASED:,} values or {MAX_DEPTH} levels"
            raise _StoppedError(event, problem, "write less")
        return target


def _place(event: Any) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


def _broken(event: Any, problem: str, remedy: str) -> Node:
    return Node(_place(event), problem=problem, remedy=remedy)


def _checked(node: Node, event: Any) -> Node:
    if event.tag is not None:
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")
        node.problem, node.remedy = f"the tag {tag} is not read", "remove it"
    return node


def _scalar(event: Any) -> Node:
    node = _checked(Node(_place(event), value=event.value, open=False), event)
    if node.problem:
        return node
    if "\0" in event.value:
        node.problem, node.remedy = "text can't hold a NUL character", "remove it"
    elif event.implicit[0]:
        _resolve(node, event.value)
    return node


def _resolve(node: Node, text: str) -> None:
    try:
        node.value, node.canonical = resolve(text), canonical(text)
    except ScalarError as error:
        node.problem, _, node.remedy = str(error).partition("; ")


def value(node: Node) -> Json:
    """Return the plain value: of a repeated key the first one, None for what is broken."""
    if node.items is not None:
        return [value(item) for item in node.items]  # as deep as MAX_DEPTH
    if node.pairs is not None:
        plain: dict[str, Json] = {}
        for key, item in node.pairs:
            if key.key is not None:
                plain.setdefault(key.key, value(item))
        return plain
    return None if node.problem else node.value


def findings(node: Node, path: Path = ()) -> Iterator[Finding]:
    """Yield what is wrong with the nodes themselves, whatever they mean."""
    if node.problem:
        yield Finding(path, node.problem, node.remedy)
    for index, item in enumerate(node.items or ()):
        yield from findings(item, (*path, index))
    seen: dict[str, Place] = {}
    for key, item in node.pairs or ():
        yield from _key_findings(key, path, seen)
        yield from findings(item, (*path, key.key or "?"))


def _key_findings(key: Node, path: Path, seen: dict[str, Place]) -> Iterator[Finding]:
    name = key.key
    if name is None:
        yield Finding((*path, str(key.value)), "a key is not text", "quote it", at_key=True)
    elif name == "<<":
        remedy = "repeat the keys, or put them into spec.defaults"
        yield Finding((*path, name), "merge keys are not read", remedy, at_key=True)
    elif name in seen:
        problem = f"the key {name!r} is given twice (first in line {seen[name].line})"
        yield Finding((*path, name), problem, "keep one", at_key=True)
    else:
        seen[name] = key.place


def locate(node: Node, path: Path, *, at_key: bool = False) -> Place:
    """Return where the value at `path` stands, or its key; else the nearest that does exist."""
    place = node.place
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        step = _child(node, part, repeated=at_key and last)
        if step is None:
            return place
        key, node = step
        place = key.place if key is not None and (at_key and last) else node.place
    return place


def _child(node: Node, part: str | int, *, repeated: bool) -> tuple[Node | None, Node] | None:
    if isinstance(part, int):
        items = node.items or []
        return (None, items[part]) if part < len(items) else None
    matching = [pair for pair in node.pairs or [] if str(pair[0].value) == part]
    return (matching[-1] if repeated else matching[0]) if matching else None


def node_at(node: Node, path: Path) -> Node | None:
    """Return the node at `path`."""
    for part in path:
        step = _child(node, part, repeated=False)
        if step is None:
            return None
        node = step[1]
    return node


def _syntax_fault(error: YAMLError, text: str) -> tuple[Place, str, str]:
    place = _syntax_place(error)
    if column := _schedule_column(text, place):
        return Place(place.line, column), "a schedule stands here unquoted", "quote the schedule"
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return place, f"this is not YAML: {problem}", "check the quotes, brackets and indentation here"


def _syntax_place(error: YAMLError) -> Place:
    for name in ("problem_mark", "context_mark"):
        if (mark := getattr(error, name, None)) is not None:
            return Place(mark.line + 1, mark.column + 1)
    return Place(1, 1)


def _schedule_column(text: str, place: Place) -> int | None:
    """Return the column of an unquoted `*/5 * * * *` or `@daily` in that line."""
    lines = text.splitlines()
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    found = re.search(r"(?:^|[:\-,\[{?]\s+)((?:\*|@)\S*)", line)
    if found is None:
        return None
    looks_so = found[1].startswith("*") or _MACRO.match(found[1])
    return found.start(1) + 1 if looks_so else None
