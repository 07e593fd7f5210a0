"""Checks of the graph: needs and mounts name what exists, and nothing waits for itself."""

from collections.abc import Iterator
from typing import Any

from controller.manifest import raw
from controller.manifest.build import SECTIONS, with_defaults
from controller.manifest.finding import Finding, Path
from controller.manifest.graph import all_needs, cycle
from controller.manifest.names import nearest
from controller.manifest.template import OPENING, written

_AFTER = "hooks and finally steps start when the steps have ended"


def check(spec: dict[str, Any], *, expressions: bool = True) -> Iterator[Finding]:
    """Yield needs and mounts of unknown things, and one cycle of each section."""
    for section in SECTIONS:
        if section in spec:
            yield from _unknown_needs(spec, section)
            yield from _cycle(spec, section, expressions=expressions)
    yield from _mounts(spec)


def _unknown_needs(spec: dict[str, Any], section: str) -> Iterator[Finding]:
    known = {name for _, name, _ in raw.named(spec, section)}
    for index, step in raw.entries(spec, section):
        if "needs" not in step:
            continue
        for place, need in raw.texts(step, "needs"):
            if need not in known and OPENING not in need:
                path = (*raw.step_path(section, index), "needs", place)
                yield Finding(
                    path, f"there is no step {need!r} in {section}", _hint(spec, need, known)
                )


def _hint(spec: dict[str, Any], need: str, known: set[str]) -> str:
    elsewhere = {step.get("name") for _, _, step in raw.steps(spec)}
    return f"leave it out: {_AFTER}" if need in elsewhere else nearest(need, known)


def _cycle(spec: dict[str, Any], section: str, *, expressions: bool) -> Iterator[Finding]:
    needs = needs_of(spec, section, expressions=expressions)
    if _all_backward(needs):
        return
    if circle := cycle(needs):
        index = next(i for i, name, _ in raw.named(spec, section) if name == circle[0])
        yield Finding(
            raw.step_path(section, index),
            f"steps wait for each other: {' -> '.join(circle)}",
            "remove one of these needs, or the use of its outputs",
        )


def needs_of(
    spec: dict[str, Any], section: str, *, expressions: bool = True
) -> dict[str, tuple[str, ...]]:
    """Return the declared and implied needs of a section's steps, by name."""
    defaults = raw.mapping(spec, "defaults")
    listed = [(name, with_defaults(step, defaults)) for _, name, step in raw.named(spec, section)]
    known = {written(name): name for name, _ in listed}
    needs: dict[str, tuple[str, ...]] = {}
    for name, step in listed:  # of a repeated name the first, as everywhere
        needs.setdefault(name, all_needs(_tidy(step), known, expressions=expressions))
    return needs


def _tidy(step: Any) -> Any:
    if all(isinstance(need, str) for need in step.get("needs", ())):
        return step
    return {key: value for key, value in step.items() if key != "needs"}


def _all_backward(needs: dict[str, tuple[str, ...]]) -> bool:
    """Tell whether every need stands before its step: then there is no cycle to look for."""
    seen: set[str] = set()
    for name, before in needs.items():
        for need in before:
            if need not in seen and need in needs:
                return False
        seen.add(name)
    return True


def _mounts(spec: dict[str, Any]) -> Iterator[Finding]:
    defaults = raw.mapping(spec, "defaults")
    for index, mount in raw.entries(defaults, "mounts"):
        path: Path = ("spec", "defaults", "mounts", index)
        if "artifact" in mount:
            remedy = "mount it in the steps that read it"
            yield Finding((*path, "artifact"), "a default can't mount an artifact", remedy)
        yield from _input(spec, mount, path)
    for section, number, step in raw.steps(spec):
        if "mounts" in step:
            yield from _step_mounts(spec, section, step, raw.step_path(section, number))


def _step_mounts(
    spec: dict[str, Any], section: str, step: dict[str, Any], path: Path
) -> Iterator[Finding]:
    for index, mount in raw.entries(step, "mounts"):
        where = (*path, "mounts", index)
        yield from _input(spec, mount, where)
        yield from _artifact(spec, section, mount, where)


def _input(spec: dict[str, Any], mount: dict[str, Any], path: Path) -> Iterator[Finding]:
    name = mount.get("input")
    if isinstance(name, str):
        known = {known for _, known, _ in raw.named(spec, "inputs")}
        if name not in known:
            yield Finding((*path, "input"), f"there is no input {name!r}", _declare(name, known))


def _declare(name: str, known: set[str]) -> str:
    return nearest(name, known, none="declare it in spec.inputs")


def _artifact(
    spec: dict[str, Any], section: str, mount: dict[str, Any], path: Path
) -> Iterator[Finding]:
    wanted = mount.get("artifact")
    if not isinstance(wanted, str):
        return
    known = set(artifacts(spec, section))
    if wanted not in known:
        problem = f"there is no artifact {wanted!r}"
        remedy = "write it as step.artifact"
        if "." in wanted:
            remedy = nearest(wanted, known, none="declare it in the step's artifacts")
        yield Finding((*path, "artifact"), problem, remedy)


def artifacts(spec: dict[str, Any], section: str) -> Iterator[str]:
    """Yield "step.artifact" for all that a step of `section` can mount; hooks see the steps'."""
    for place in dict.fromkeys(("steps", section)):
        for _, name, step in raw.named(spec, place):
            for _, artifact, _ in raw.named(step, "artifacts"):
                yield f"{name}.{artifact}"
