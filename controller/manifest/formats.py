"""What the schema's formats mean. One function each: it returns, or raises ValueError."""

import re
from collections.abc import Callable
from functools import lru_cache
from zoneinfo import ZoneInfo

from controller.manifest import cron
from controller.manifest.template import TemplateError, split
from controller.model.quantity import parse_duration

_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?\Z", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
_MODULE = re.compile(r"[A-Za-z0-9][\w.+~/:@-]*\Z", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}\Z", re.ASCII)
_FUNCTION = re.compile(r"[A-Za-z][A-Za-z0-9-]*\Z", re.ASCII)
_MAX_NAME = 63
_MAX_PATH = 4096
SETTINGS_OF_A_MATRIX = frozenset({"as", "from", "include", "exclude", "maxParallel", "failFast"})


class FormatError(ValueError):
    """Text that its format refuses; `problem` and `remedy` are shown apart."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem, self.remedy = problem, remedy


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")  # noqa: PLR2004 - one line of it


def name(text: str) -> None:
    if not _NAME.match(text) or len(text) > _MAX_NAME:
        remedy = "use a-z, 0-9 and '-', begin and end with a letter or digit, 63 at most"
        raise FormatError(f"{_shown(text)} is not a name", remedy)


def duration(text: str) -> None:
    if not _parsed(text):
        raise FormatError(f"{_shown(text)} is no time at all", "write a duration above zero")


def duration_or_zero(text: str) -> None:
    _parsed(text)


def _parsed(text: str) -> bool:
    try:
        return bool(parse_duration(text))
    except ValueError as error:
        problem, _, remedy = str(error).partition("; ")
        raise FormatError(problem, remedy or "write less") from None


def variable(text: str) -> None:
    if not _VARIABLE.match(text):
        raise FormatError(
            f"{_shown(text)} is no name of an environment variable",
            "use letters, digits and '_', not beginning with a digit",
        )


def axis(text: str) -> None:
    if text in SETTINGS_OF_A_MATRIX:
        raise FormatError(f"{_shown(text)} can't be an axis", "give it another name")
    name(text)


def matrix_key(text: str) -> None:
    if text not in SETTINGS_OF_A_MATRIX:
        name(text)


def reference(text: str) -> None:
    """A workflow: `name`, or `source/name`."""
    for part in text.split("/", 1):
        name(part)


def module(text: str) -> None:
    if not _MODULE.match(text) or len(text) > _MAX_PATH:
        remedy = "write its Git address, as github.com/acme/report-module"
        raise FormatError(f"{_shown(text)} is not a module's address", remedy)
    if "@" in text.partition("/")[2]:
        problem = f"{_shown(text)} holds a version"
        raise FormatError(problem, "write what follows @ as `version`")


def commit(text: str) -> None:
    if not _COMMIT.match(text):
        remedy = "pin it: write the 40 hexadecimal digits of its commit"
        raise FormatError(f"{_shown(text)} is not a commit", remedy)


def function(text: str) -> None:
    if not _FUNCTION.match(text):
        problem = f"{_shown(text)} is not a function's name"
        raise FormatError(problem, "write one name, as `dagger functions` lists it")


def expression(text: str) -> None:
    try:
        pieces = split(text.strip())
    except TemplateError:
        return  # told where expressions are checked
    if len(pieces) != 1:
        raise FormatError(f"{_shown(text)} is more than an expression", "write one `${{ }}` alone")
    if not pieces[0].expression:
        remedy = f"write '${{{{ {pieces[0].text[:60]} }}}}'"
        raise FormatError(f"{_shown(text)} is not an expression", remedy)


def path(text: str) -> None:
    if text.startswith("/"):
        raise FormatError(f"{_shown(text)} is an absolute path", "write a relative one")
    mount_path(text)


def mount_path(text: str) -> None:
    if not text:
        raise FormatError("the path is empty", "write '.' for the folder itself")
    if ".." in text.split("/"):
        raise FormatError(f"{_shown(text)} leaves its folder", "write a path without '..'")
    if "\0" in text or "\\" in text or len(text) > _MAX_PATH:
        raise FormatError(f"{_shown(text)} is not a usable path", "write folders with '/'")


def cron_text(text: str) -> None:
    cron.parse(text)


@lru_cache(maxsize=1024)
def time_zone(text: str) -> None:
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        problem = f"{_shown(text)} is not a known time zone"
        raise FormatError(problem, "write an IANA name, as Europe/Berlin or UTC") from None


FORMATS: dict[str, Callable[[str], None]] = {
    "rondel-name": name,
    "rondel-duration": duration,
    "rondel-duration-or-zero": duration_or_zero,
    "rondel-variable": variable,
    "rondel-condition": expression,
    "rondel-expression": expression,
    "rondel-axis": axis,
    "rondel-matrix-key": matrix_key,
    "rondel-reference": reference,
    "rondel-module": module,
    "rondel-commit": commit,
    "rondel-function": function,
    "rondel-path": path,
    "rondel-mount-path": mount_path,
    "rondel-cron": cron_text,
    "rondel-time-zone": time_zone,
}


def accepts(check: Callable[[str], None]) -> Callable[[object], bool]:
    """Return the format as a yes or no, remembering what it said; other types pass."""

    @lru_cache(maxsize=4096)
    def decide(text: str) -> bool:
        try:
            check(text)
        except ValueError:
            return False
        return True

    return lambda value: decide(value) if isinstance(value, str) else True
