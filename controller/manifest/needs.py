"""Checks of the graph: needs and mounts name what exists, and nothing waits for itself."""

from collections.abc import Iterator, Sequence
from typing import Any

from controller.manifest import raw
from controller.manifest.build import SECTIONS
from controller.manifest.finding import Finding, Path
from controller.manifest.graph import EXPRESSIVE, all_needs, cycle
from controller.manifest.names import nearest
from controller.manifest.template import OPENING, written

Texts = Sequence[tuple[Path, str]]
_LINKS = frozenset({"needs", "mounts"})
_SHOWN = 12  # names of a cycle
_AFTER = "hooks and finally steps start when the steps have ended"


def check(
    spec: dict[str, Any],
    steps: raw.Steps,
    texts: Texts,
    open_steps: frozenset[str] = frozenset(),
) -> Iterator[Finding]:
    """Yield needs and mounts of unknown things, and one cycle of each section.

    Args:
        spec: the raw spec.
        steps: its steps, hooks and finally steps.
        texts: its strings that hold expressions, with their paths.
        open_steps: steps that may leave artifacts nobody here knows of.
    """
    yield from _default_mounts(spec)
    texts = [(path, text) for path, text in texts if "steps" in text]
    if not texts and all(_LINKS.isdisjoint(step) for _, _, step in steps):
        return  # nothing waits for anything
    for section in SECTIONS:
        if section in spec:
            yield from _unknown_needs(spec, section)
            yield from _cycle(spec, section, texts)
    inputs = _inputs(spec)
    for section in SECTIONS:
        if section in spec:
            yield from _section_mounts(spec, section, inputs, open_steps)


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
    elsewhere = {name for section in SECTIONS for _, name, _ in raw.named(spec, section)}
    return f"leave it out: {_AFTER}" if need in elsewhere else nearest(need, known)


def _cycle(spec: dict[str, Any], section: str, texts: Texts) -> Iterator[Finding]:
    needs = needs_of(spec, section, texts)
    if _all_backward(needs):
        return
    if circle := cycle(needs):
        index = next(i for i, name, _ in raw.named(spec, section) if name == circle[0])
        yield Finding(
            raw.step_path(section, index),
            f"steps wait for each other: {' -> '.join(_shortened(circle))}",
            "remove one of these needs, or the use of its outputs",
        )


def _shortened(circle: tuple[str, ...]) -> tuple[str, ...]:
    return circle if len(circle) <= _SHOWN else (*circle[: _SHOWN - 1], "...", circle[-1])


def needs_of(spec: dict[str, Any], section: str, texts: Texts) -> dict[str, tuple[str, ...]]:
    """Return the declared and implied needs of a section's steps, by name.

    Defaults imply none: they mount no artifacts and their expressions see no steps.
    """
    listed = list(raw.named(spec, section))
    known = {written(name): name for _, name, _ in listed}
    used = _by_step(texts, section)
    needs: dict[str, tuple[str, ...]] = {}
    for index, name, step in listed:  # of a repeated name the first, as everywhere
        if name not in needs:
            needs[name] = all_needs(_tidy(step), known, used.get(index, ()))
    return needs


def _by_step(texts: Texts, section: str) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for path, text in texts:
        match path:
            case (str(first), int(index), str(field), *_) if first == section:
                if field in EXPRESSIVE:
                    found.setdefault(index, []).append(text)
    return found


def _tidy(step: dict[str, Any]) -> dict[str, Any]:
    """Return what of `needs` and `mounts` has the shape to be read."""
    if not step.keys() & {"needs", "mounts"}:
        return step
    mounts = [mount for _, mount in raw.entries(step, "mounts") if _readable(mount)]
    return {"needs": [need for _, need in raw.texts(step, "needs")], "mounts": mounts}


def _readable(mount: dict[str, Any]) -> bool:
    return isinstance(mount.get("artifact", ""), str)


def _all_backward(needs: dict[str, tuple[str, ...]]) -> bool:
    """Tell whether every need stands before its step: then there is no cycle to look for."""
    seen: set[str] = set()
    for name, before in needs.items():
        for need in before:
            if need not in seen and need in needs:
                return False
        seen.add(name)
    return True


def _inputs(spec: dict[str, Any]) -> set[str]:
    return {name for _, name, _ in raw.named(spec, "inputs")}


def _default_mounts(spec: dict[str, Any]) -> Iterator[Finding]:
    for index, mount in raw.entries(raw.mapping(spec, "defaults"), "mounts"):
        path: Path = ("spec", "defaults", "mounts", index)
        if "artifact" in mount:
            remedy = "mount it in the steps that read it"
            yield Finding((*path, "artifact"), "a default can't mount an artifact", remedy)
        yield from _input(mount, _inputs(spec), path)


def _section_mounts(
    spec: dict[str, Any], section: str, inputs: set[str], open_steps: frozenset[str]
) -> Iterator[Finding]:
    made: set[str] | None = None  # only sections that mount an artifact list what there is
    for number, step in raw.entries(spec, section):
        for index, mount in raw.entries(step, "mounts"):
            where = (*raw.step_path(section, number), "mounts", index)
            yield from _input(mount, inputs, where)
            if "artifact" in mount and str(mount["artifact"]).partition(".")[0] not in open_steps:
                made = set(artifacts(spec, section)) if made is None else made
                yield from _artifact(mount["artifact"], made, where)


def _input(mount: dict[str, Any], inputs: set[str], path: Path) -> Iterator[Finding]:
    name = mount.get("input")
    if isinstance(name, str) and name not in inputs:
        remedy = nearest(name, inputs, none="declare it in spec.inputs")
        yield Finding((*path, "input"), f"there is no input {name!r}", remedy)


def _artifact(wanted: Any, known: set[str], path: Path) -> Iterator[Finding]:
    if isinstance(wanted, str) and wanted not in known:
        remedy = "write it as step.artifact"
        if "." in wanted:
            remedy = nearest(wanted, known, none="declare it in the step's artifacts")
        yield Finding((*path, "artifact"), f"there is no artifact {wanted!r}", remedy)


def artifacts(spec: dict[str, Any], section: str) -> Iterator[str]:
    """Yield "step.artifact" for all that a step of `section` can mount; hooks see the steps'."""
    for place in dict.fromkeys(("steps", section)):
        for _, name, step in raw.named(spec, place):
            for _, artifact, _ in raw.named(step, "artifacts"):
                yield f"{name}.{artifact}"
