"""Checks of what a step does: what its kind of work can't have, its matrix, services, caches."""

from collections.abc import Iterable, Iterator
from typing import Any

from controller.manifest import axes, raw
from controller.manifest.finding import Finding, Path

WORKS = ("script", "args", "agent", "module", "uses", "alert")
ALERTING = frozenset({"onSuccess", "onFailure", "onCancel"})
_RARE = frozenset({"matrix", "caches", "services", "uses", "alert", "module"})
_ALWAYS = frozenset({"name", "needs", "when"})
_TRIED = _ALWAYS | {"matrix", "retry", "timeout", "continueOnError"}
_HAS = {
    "alert": _ALWAYS | {"alert"},
    "uses": _TRIED | {"uses"},
    "module": _TRIED | {"module", "cache", "outputs", "artifacts", "successExitCodes"},
}
_REFUSED = {
    "alert": ("an alert has no `{}`", "remove it"),
    "uses": ("a called workflow has no `{}` here", "write it in the workflow itself"),
    "module": ("a module's function has no `{}`", "give it what it needs by `module.args`"),
}


def check(spec: dict[str, Any], steps: raw.Steps, name: str) -> Iterator[Finding]:
    """Yield what of a step doesn't go together.

    Args:
        spec: the raw spec.
        steps: its steps, hooks and finally steps.
        name: of the workflow, "" when it can't be read.
    """
    defaults = raw.mapping(spec, "defaults")
    yield from _beside(defaults, ("spec", "defaults"))
    for section, index, step in steps:
        if not _RARE.isdisjoint(step):
            path = raw.step_path(section, index)
            yield from _fitting(step, section, path)
            yield from _beside(step, path)
            if isinstance(matrix := step.get("matrix"), dict):
                yield from axes.check(matrix, (*path, "matrix"))
            if name and raw.mapping(step, "uses").get("workflow") == name:
                problem = "a workflow can't use itself"
                yield Finding((*path, "uses", "workflow"), problem, "name another one")


def _fitting(step: dict[str, Any], section: str, path: Path) -> Iterator[Finding]:
    """Yield the keys that mean nothing beside the step's work; of two works nobody knows."""
    works = [work for work in WORKS if work in step]
    if "alert" in works and section not in ALERTING:
        problem = "only onSuccess, onFailure and onCancel send alerts"
        yield Finding((*path, "alert"), problem, "move it there", at_key=True)
    if len(works) == 1 and (has := _HAS.get(works[0])):
        problem, remedy = _REFUSED[works[0]]
        for key in step:
            if key not in has:
                yield Finding((*path, key), problem.format(key), remedy, at_key=True)


def _beside(holder: dict[str, Any], path: Path) -> Iterator[Finding]:
    """Yield what is wrong with the services and caches of a step, or of the defaults."""
    for index, service in raw.entries(holder, "services"):
        yield from _service(service, (*path, "services", index))
    yield from _twice(holder, "services", "name", path)
    yield from _twice(holder, "caches", "path", path)


def _service(service: dict[str, Any], path: Path) -> Iterator[Finding]:
    if "args" in service and "script" in service:
        yield Finding(path, "a service has one of `args` and `script`", "keep one of the two")
    if service.keys().isdisjoint({"image", "args", "script"}):
        problem = "the service has nothing to run"
        yield Finding(path, problem, "add an image, `args` or `script`")


def _twice(holder: dict[str, Any], key: str, part: str, path: Path) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, value in _texts(raw.entries(holder, key), part):
        if value in seen:
            where = (*path, key, index, part)
            yield Finding(where, f"the {part} {value!r} is taken", f"give it a {part} of its own")
        seen.add(value)


def _texts(entries: Iterable[tuple[int, dict[str, Any]]], part: str) -> Iterator[tuple[int, str]]:
    for index, entry in entries:
        if isinstance(value := entry.get(part), str):
            yield index, value
