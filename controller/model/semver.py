"""Versions and ranges of Semantic Versioning, as Flux reads them: which tag is the highest wanted.

A range is `||` of lists; a list holds comparators (`=`, `!=`, `>`, `>=`, `<`, `<=`, `~`, `^`, parts
left out or written `x` or `*`) and spans `1.2 - 2.3`, all of which must hold. A prerelease is taken
only by a list that names one: `>=1.2.0-0`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

LONGEST = 256  # characters of a range
PARTS = 3  # major, minor, patch
_NUMBER = r"(?:0|[1-9]\d{0,17})"
_LABEL = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_VERSION = re.compile(
    rf"v?({_NUMBER})(?:\.({_NUMBER}))?(?:\.({_NUMBER}))?(?:-({_LABEL}))?(?:\+({_LABEL}))?\Z",
    re.ASCII,
)
_PART = rf"(?:{_NUMBER}|[xX*])"
_PARTIAL = rf"v?{_PART}(?:\.{_PART}){{0,2}}(?:-{_LABEL})?(?:\+{_LABEL})?"
_OPERATOR = r"!=|>=|=>|<=|=<|~>|[=<>~^]?"
_SPAN = re.compile(rf"\s*({_PARTIAL})\s+-\s+({_PARTIAL})(?=[\s,]|\Z)", re.ASCII)
_COMPARATOR = re.compile(rf"\s*({_OPERATOR})\s*({_PARTIAL})(?=[\s,<>=~^!]|\Z)", re.ASCII)
_SAME = {"=>": ">=", "=<": "<=", "~>": "~", "": "="}

Label: TypeAlias = tuple[tuple[int, int, str], ...]
Key: TypeAlias = tuple[int, int, int, Label, int]
"""Where a version stands among all; the last number is 1 just after it."""

RELEASE: Label = ((2, 0, ""),)  # stands after every prerelease of its numbers
FIRST: Label = ()  # stands before them
BEGIN: Key = (0, 0, 0, FIRST, 0)
END: Key = (10**19, 0, 0, FIRST, 0)


@dataclass(frozen=True, slots=True)
class Span:
    """The versions from `low` to before `high`; with `outside` all others."""

    low: Key
    high: Key
    outside: bool = False

    def holds(self, key: Key) -> bool:
        return (self.low <= key < self.high) is not self.outside


@dataclass(frozen=True, slots=True)
class Range:
    """Lists of spans, each with whether it takes prereleases; one list must hold as a whole."""

    lists: tuple[tuple[tuple[Span, ...], bool], ...]

    def holds(self, key: Key) -> bool:
        return any(
            (early or key[3] == RELEASE) and all(span.holds(key) for span in spans)
            for spans, early in self.lists
        )


@dataclass(frozen=True, slots=True)
class Partial:
    """A version as a range writes it: numbers may be missing at its end."""

    numbers: tuple[int, ...]
    label: Label = RELEASE

    @property
    def low(self) -> Key:
        major, minor, patch = (*self.numbers, 0, 0, 0)[:PARTS]
        return (major, minor, patch, self.label, 0)

    @property
    def end(self) -> Key:
        """Return where the versions end that this one stands for."""
        return self.after(len(self.numbers)) if len(self.numbers) < PARTS else (*self.low[:4], 1)

    def after(self, count: int) -> Key:
        """Return where the versions end that agree in the first `count` numbers."""
        if count == 0:
            return END
        major, minor, patch, *_ = (*self.numbers[: count - 1], self.numbers[count - 1] + 1, 0, 0)
        return (major, minor, patch, FIRST, 0)


def highest(tags: Iterable[str], wanted: Range) -> str | None:
    """Return the tag with the highest version in a range; tags that are no versions don't count."""
    found = [(key, tag) for tag in tags if (key := version(tag)) is not None and wanted.holds(key)]
    return max(found)[1] if found else None


def version(text: str) -> Key | None:
    """Return where a version stands; None when it is none. `v1.2` is 1.2.0."""
    match = _VERSION.match(text)
    if match is None:
        return None
    major, minor, patch, early, _ = match.groups()
    return (int(major), int(minor or 0), int(patch or 0), label(early), 0)


def label(text: str | None) -> Label:
    if text is None:
        return RELEASE
    return tuple((0, int(one), "") if one.isdigit() else (1, 0, one) for one in text.split("."))


def parse_range(text: str) -> Range:
    """Return what a range says.

    Raises:
        ValueError: what can't be read, in words.
    """
    if len(text) > LONGEST:
        raise ValueError(f"is over {LONGEST} characters long")
    return Range(tuple(parse_list(one) for one in text.split("||")))


def parse_list(text: str) -> tuple[tuple[Span, ...], bool]:
    spans: list[Span] = []
    early, place = False, 0
    while text[place:].strip(" \t,"):
        match = _SPAN.match(text, place) or _COMPARATOR.match(text, place)
        if match is None:
            raise ValueError(f"{text[place:].strip()!r} can't be read")
        if match.re is _SPAN:
            low, high = partial(match[1]), partial(match[2])
            spans.append(Span(low.low, high.end))
            early = early or (low.label, high.label) != (RELEASE, RELEASE)
        else:
            one = partial(match[2])
            spans.append(compared(_SAME.get(match[1], match[1]), one))
            early = early or one.label != RELEASE
        place = match.end()
        while text[place : place + 1] in {" ", "\t", ","}:
            place += 1
    if not spans:
        raise ValueError(f"says nothing by {text!r}")
    return tuple(spans), early


def partial(text: str) -> Partial:
    """Return a version whose numbers may be missing. Raises ValueError for `1.x.3`, `1.2-rc`."""
    numbers, dash, early = text.removeprefix("v").partition("+")[0].partition("-")
    parts = numbers.split(".")
    known = [int(one) for one in parts if one.isdigit()]
    if any(one.isdigit() for one in parts[len(known) :]) or (dash and len(known) < PARTS):
        raise ValueError(f"{text!r} leaves out a number before its end")
    return Partial(tuple(known), label(early) if dash else RELEASE)


def compared(operator: str, one: Partial) -> Span:
    """Return the versions that a comparator takes."""
    # Before a release stand its prereleases: they are not meant by "less than it".
    before = one.low if one.label != RELEASE else (*one.low[:3], FIRST, 0)
    spans = {
        "=": lambda: Span(one.low, one.end),
        "!=": lambda: Span(one.low, one.end, outside=True),
        ">=": lambda: Span(one.low, END),
        ">": lambda: Span(one.end, END),
        "<=": lambda: Span(BEGIN, one.end),
        "<": lambda: Span(BEGIN, before),
        "~": lambda: Span(one.low, one.after(min(len(one.numbers), 2))),
        "^": lambda: Span(one.low, one.after(fixed(one.numbers))),
    }
    return spans[operator]()


def fixed(numbers: tuple[int, ...]) -> int:
    """Return how many numbers `^` holds fast: up to the first that isn't 0."""
    for place, number in enumerate(numbers, 1):
        if number:
            return place
    return len(numbers)
