"""Checks of names: each is unique where it is looked up, also as expressions write it."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from heapq import nsmallest
from typing import Any

from controller import digest
from controller.manifest import raw
from controller.manifest.finding import Finding, Path
from controller.manifest.template import written

_COMPARED = 50
_UNUSABLE = frozenset({"in", "true", "false", "null"})


def check(spec: dict[str, Any], steps: raw.Steps) -> Iterator[Finding]:
    """Yield every name of the spec that is given twice."""
    for list_ in ("params", "inputs"):
        yield from _repeated(
            (("spec", list_, index, "name"), name) for index, name, _ in raw.named(spec, list_)
        )
    yield from _repeated(_step_names(steps))
    yield from _schedules(spec)
    for section, index, step in steps:
        if "artifacts" in step or "outputs" in step:
            yield from _inside(step, raw.step_path(section, index))


def _step_names(steps: raw.Steps) -> Iterator[tuple[Path, str]]:
    for section, index, step in steps:
        if isinstance(name := step.get("name"), str):
            yield (*raw.step_path(section, index), "name"), name


def _inside(step: dict[str, Any], path: Path) -> Iterator[Finding]:
    if "artifacts" in step:
        yield from _repeated(
            ((*path, "artifacts", i, "name"), name) for i, name, _ in raw.named(step, "artifacts")
        )
    if len(outputs := raw.mapping(step, "outputs")) > 1:
        yield from _repeated(((*path, "outputs", name), name) for name in outputs)


def _repeated(found: Iterable[tuple[Path, str]]) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for path, name in found:
        earlier = seen.get(written(name))
        seen.setdefault(written(name), name)
        if earlier is None:
            continue
        if earlier == name:
            yield Finding(path, f"the name {name!r} is taken", "give it a name of its own")
        else:
            problem = f"{name!r} and {earlier!r} are one name in expressions ({written(name)})"
            yield Finding(path, problem, "rename one of the two")


def _schedules(spec: dict[str, Any]) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, schedule in raw.entries(spec, "schedules"):
        identity = schedule_identity(schedule)
        if identity in seen:
            remedy = "give each schedule a name of its own, or remove one"
            yield Finding(("spec", "schedules", index), "two schedules are one", remedy)
        seen.add(identity)


def schedule_identity(schedule: dict[str, Any]) -> str:
    """Return the name, else what stands for it: equal texts are equal schedules."""
    if isinstance(name := schedule.get("name"), str):
        return name
    parts = (schedule.get("cron"), schedule.get("timeZone", "UTC"), schedule.get("params", {}))
    return digest.canonical(parts)


def usable(name: str) -> bool:
    """Tell whether expressions can write this name."""
    return not name[:1].isdigit() and name not in _UNUSABLE


def _likely(word: str, listed: list[str]) -> list[str]:
    """Keep the few that share most letters: comparing with thousands takes seconds."""
    if len(listed) <= _COMPARED:
        return listed
    letters = set(word)
    return nsmallest(
        _COMPARED, listed, key=lambda one: len(letters ^ set(one)) + abs(len(one) - len(word))
    )


def nearest(word: str, known: Iterable[str], *, none: str = "there is none here") -> str:
    """Return a remedy: the nearest known name, else the known names, else `none`."""
    listed = sorted(set(known))
    close = get_close_matches(word, _likely(word, listed), n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    if not listed:
        return none
    more = ", ..." if len(listed) > 12 else ""  # noqa: PLR2004 - one line of them
    return f"known here: {', '.join(listed[:12])}{more}"
