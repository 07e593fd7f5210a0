"""Cron text, checked and normalised; cronsim does the arithmetic."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = ("minute", "hour", "day of month", "month", "day of week")
_SECOND = re.compile(r"(?:\*|[0-5]?\d(?:-[0-5]?\d)?)(?:/\d{1,2})?\Z", re.ASCII)
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_PART = re.compile(
    r"(?:\*|(?P<first>\d{1,2}|[A-Z]{3})(?:-(?P<last>\d{1,2}|[A-Z]{3}))?)(?:/(?P<step>\d{1,2}))?\Z",
    re.ASCII,
)
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_SECONDS_FIELDS = 6
_LEAP_DAY = datetime(2000, 1, 1, tzinfo=UTC)


class CronError(ValueError):
    """Cron text that is refused; `problem` and `remedy` are shown apart."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem, self.remedy = problem, remedy


@dataclass(frozen=True, slots=True)
class CronText:
    """Five fields as cronsim reads them, and the seconds of each matching minute."""

    fields: str  # "30 2 * * 1-5": upper case names, `?` as `*`, macros expanded
    seconds: tuple[int, ...] = (0,)  # sorted


@lru_cache(maxsize=4096)
def parse(text: str) -> CronText:
    """Return the normalised form of five fields, six with leading seconds, or a macro.

    Raises:
        CronError: it is not understood, is not portable, or can never fire.
    """
    _refuse_foreign(text)
    parts = MACROS.get(text.strip().lower(), text).upper().replace("?", "*").split()
    seconds = _seconds(parts.pop(0)) if len(parts) == _SECONDS_FIELDS else (0,)
    if len(parts) != len(_FIELDS):
        raise CronError(f"{text!r} has {len(parts)} fields", "write five, as in '30 2 * * *'")
    for index, part in enumerate(parts):
        _check_field(index, part)
    fields = " ".join(_known_to_cronsim(index, part) for index, part in enumerate(parts))
    _refuse_impossible(fields, text)
    return CronText(fields, seconds)


def _refuse_foreign(text: str) -> None:
    word = text.strip().lower()
    if word.startswith("@reboot"):
        raise CronError("@reboot is not supported", "use triggers: [{onChange: [spec]}]")
    if word.startswith("@every"):
        raise CronError("@every is not supported", "write a step, as in '*/15 * * * *'")
    if word.startswith("@") and word not in MACROS:
        raise CronError(f"{text!r} is not a known macro", f"use one of {', '.join(MACROS)}")
    if word.startswith(("tz=", "cron_tz=")):
        raise CronError("a zone inside cron text is not supported", "write it in `timeZone`")
    if not text.isascii():
        raise CronError(f"{text!r} holds characters that cron does not know", "use ASCII digits")


def _check_field(index: int, field: str) -> None:
    for part in field.split(","):
        _refuse_special(index, part)
        match = _PART.match(part)
        if match is None:
            raise _bad(index, part, f"write *, a number, a range or a step ({_bounds(index)})")
        _check_part(index, part, match)


def _check_part(index: int, part: str, match: re.Match[str]) -> None:
    first, last, step = match["first"], match["last"], match["step"]
    low = None if first is None else _number(index, part, first)
    high = None if last is None else _number(index, part, last)
    if low is not None and high is not None and high < low and not _to_sunday(index, high):
        raise _bad(index, part, f"a range does not wrap around; write {_unwrapped(index, part)}")
    if step is not None and not 1 <= int(step) <= _RANGES[index][1]:
        raise _bad(index, part, f"a step is 1 to {_RANGES[index][1]}")


def _to_sunday(index: int, high: int) -> bool:
    """`fri-sun`: Sunday closes the week as well as it opens it."""
    return index == _FIELDS.index("day of week") and high == 0


def _refuse_special(index: int, part: str) -> None:
    if "#" in part:
        raise _bad(index, part, "list the days of the month instead, as in '1-7'")
    if part in {"L", "LW"} or re.match(r"(?:\d|[A-Z]{3})L\Z|L-\d+\Z", part):
        raise _bad(index, part, "`L` is not portable; run on '28' or check the date in `when`")
    if re.match(r"\d+W\Z|W\Z", part):
        raise _bad(index, part, "`W` is not portable; combine weekdays with `when`")


def _number(index: int, part: str, text: str) -> int:
    names = {3: _MONTHS, 4: _DAYS}.get(index, [])
    low, high = _RANGES[index]
    if text in names:
        return names.index(text) + low
    if not text.isdigit() or not low <= int(text) <= high:
        raise _bad(index, part, f"use {_bounds(index)}")
    return int(text)


def _bounds(index: int) -> str:
    low, high = _RANGES[index]
    names = {3: " or JAN-DEC", 4: " (0 and 7 are Sunday) or SUN-SAT"}.get(index, "")
    return f"{low}-{high}{names}"


def _unwrapped(index: int, part: str) -> str:
    """Return the two ranges that a wrapped one stands for: `22-2` is `22-23,0-2`."""
    first, last = part.partition("/")[0].split("-")
    low, high = map(str, _RANGES[index])
    if index == len(_FIELDS) - 1:
        high = "6"
    if first.isalpha():
        names = _MONTHS if index == _FIELDS.index("month") else _DAYS
        low, high = names[0], names[-1]
    return f"'{_span(first, high)},{_span(low, last)}'"


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first}-{last}"


def _known_to_cronsim(index: int, field: str) -> str:
    return ",".join(_plain_part(index, part) for part in field.split(","))


def _plain_part(index: int, part: str) -> str:
    """Return a part as cronsim reads it: `fri-sun` ends on 7, and `0-0/2` is 0 alone."""
    span, slash, step = part.partition("/")
    first, dash, last = span.partition("-")
    if not dash:
        return part
    if _number(index, part, first) == _number(index, part, last):
        return first
    if _to_sunday(index, _number(index, part, last)):
        return f"{first}-7{slash}{step}"
    return part


def _seconds(field: str) -> tuple[int, ...]:
    found: set[int] = set()
    for part in field.split(","):
        if not _SECOND.match(part):
            raise CronError(f"second {part!r} is not understood", "use 0-59, ranges and steps")
        found.update(_seconds_of(part))
    return tuple(sorted(found))


def _seconds_of(part: str) -> range:
    span, _, step = part.partition("/")
    first, _, last = span.partition("-")
    low = 0 if first == "*" else int(first)
    high = int(last) if last else (59 if step or first == "*" else low)
    if high < low or (step and int(step) == 0):
        raise CronError(f"second {part!r} is not understood", "use 0-59, ranges and steps")
    return range(low, high + 1, int(step or 1))


def _refuse_impossible(fields: str, text: str) -> None:
    from cronsim import CronSim, CronSimError  # noqa: PLC0415 - only where there is a schedule

    try:
        next(CronSim(fields, _LEAP_DAY))
    except (CronSimError, StopIteration, RuntimeError):
        problem = f"{text!r} can never fire"
        raise CronError(problem, "choose a date that exists") from None


def _bad(index: int, part: str, remedy: str) -> CronError:
    return CronError(f"{_FIELDS[index]} {part!r} is not understood", remedy)
