"""structlog: one JSON object a line, or readable lines on a terminal; the same keys in both."""

import json
import re
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
FIRST = ("source", "workflow", "run", "step", "attempt")
COLOURS = {"debug": "\x1b[2m", "info": "", "warning": "\x1b[33m", "error": "\x1b[31m"}
DIM, BOLD, RESET = "\x1b[2m", "\x1b[1m", "\x1b[0m"
DIGEST = re.compile(r"\b(sha1:|sha256:)([0-9a-f]{10})[0-9a-f]+")
Line = MutableMapping[str, Any]


def configure(
    *, stream: TextIO | None = None, as_json: bool | None = None, level: str = "info"
) -> None:
    """Set up the log of this process.

    Args:
        stream: where lines go; standard error by default.
        as_json: JSON lines; by default when `stream` is no terminal.
        level: debug, info, warning or error.
    """
    stream = stream or sys.stderr
    as_json = not stream.isatty() if as_json is None else as_json
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            stamp,
            structlog.processors.format_exc_info,
            without_empty,
            to_json if as_json else to_console,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )


def stamp(_: Any, __: str, line: Line) -> Line:
    # The log is no decision: its time is the machine's, not the injected clock's.
    now = datetime.now(UTC)  # noqa: TID251 - see above
    line["time"] = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return line


def without_empty(_: Any, __: str, line: Line) -> Line:
    return {key: value for key, value in line.items() if value is not None and value != ""}


def to_json(_: Any, __: str, line: Line) -> str:
    """Return the line as JSON: time, level and event first, then who it is about."""
    head = {key: line.pop(key) for key in ("time", "level", "event", *FIRST) if key in line}
    return json.dumps({**head, **line}, default=str, ensure_ascii=False)


def to_console(_: Any, __: str, line: Line) -> str:
    """Return the line for people: time of day, what, about whom, the rest."""
    time, level, event = line.pop("time"), line.pop("level"), str(line.pop("event"))
    trace = line.pop("exception", "")
    who = "/".join(str(line.pop(key)) for key in FIRST if key in line)
    rest = " ".join(f"{DIM}{key}={RESET}{short(value)}" for key, value in line.items())
    local = datetime.fromisoformat(time).astimezone()
    colour = COLOURS.get(level, "")
    words = event.replace("_", " ")
    mark = f"{local:%H:%M:%S} {colour}{words:<17}{RESET} {BOLD}{who}{RESET}"
    return " ".join(part for part in (mark, rest) if part) + (f"\n{trace}" if trace else "")


def short(value: Any) -> str:
    """Return a value on one line, digests by their beginning: the JSON has them whole."""
    return DIGEST.sub(r"\1\2", str(value).replace("\n", " | "))
