"""Workflows run as steps: what a caller may know of them, and their bodies pinned into its own."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller import digest
from controller.errors import StalledError
from controller.manifest import raw
from controller.manifest.build import SECTIONS
from controller.manifest.finding import Finding
from controller.manifest.template import OPENING
from controller.manifest.values import given, missing

DEEPEST = 10  # calls inside calls
LARGEST = 4 << 20  # bytes of a pinned body: workflows that share what they call hold copies of it


@dataclass(frozen=True, slots=True)
class Interface:
    """What a caller knows of a workflow: its params as written, the names of its outputs."""

    params: Mapping[str, dict[str, Any]]
    outputs: tuple[str, ...]


def interface(body: str) -> Interface:
    """Return the interface of a valid workflow's body."""
    spec = json.loads(body)["spec"]
    params = {name: param for _, name, param in raw.named(spec, "params")}
    return Interface(params, tuple(spec.get("outputs", ())))


def check(steps: raw.Steps, known: Mapping[str, Interface]) -> Iterator[Finding]:
    """Yield params that a called workflow doesn't have, lacks, or has of another type.

    Args:
        steps: raw steps, hooks and finally steps.
        known: the workflows that somebody has read; calls of others are not judged.
    """
    for section, index, step in steps:
        uses = raw.mapping(step, "uses")
        name = uses.get("workflow")
        if not isinstance(name, str) or name not in known:
            continue
        params, values = known[name].params, raw.mapping(uses, "params")
        literal = {key: item for key, item in values.items() if _is_literal(item, key, params)}
        path = (*raw.step_path(section, index), "uses")
        yield from given(literal, params, (*path, "params"))
        remedy = f"give it here, or give the param a default in {name!r}"
        yield from missing(params, values, path, f"the call of {name!r}", remedy)


def _is_literal(value: Any, name: str, params: Mapping[str, Any]) -> bool:
    """An unknown param is one whatever its value is."""
    return name not in params or OPENING not in repr(value)


def calls_in(body: str) -> tuple[str, ...]:
    """Return the names of the workflows that a body's steps run, sorted."""
    if '"uses"' not in body:
        return ()
    spec = json.loads(body)["spec"]
    steps = (step for section in SECTIONS for step in spec.get(section, ()))
    return tuple(sorted({step["uses"]["workflow"] for step in steps if "uses" in step}))


def called_first(name: str, calls: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
    """Return the workflow and all that it calls, each once and after those that it calls itself.

    Args:
        name: of the workflow.
        calls: returns the names that a workflow calls; it raises for one that isn't there.

    Raises:
        StalledError: CallsTooDeep, also when they call each other; CallUnknown.
    """
    heights: dict[str, int] = {}
    _climb(name, calls, heights, ())
    return tuple(heights)


def _climb(
    name: str,
    calls: Callable[[str], tuple[str, ...]],
    heights: dict[str, int],
    above: tuple[str, ...],
) -> int:
    """Note how many calls deep each workflow is below `name`, the deepest first."""
    chain = (*above, name)
    if name in above:
        raise _too_deep("workflows use each other", chain)
    if name not in heights:
        if len(above) > DEEPEST:
            raise _too_deep(f"more than {DEEPEST} calls deep", chain)
        called = calls(name)
        for one in called:
            _refuse_other_source(one, name)
        depths = [_climb(one, calls, heights, chain) for one in called]
        heights[name] = max((depth + 1 for depth in depths), default=0)
    if len(above) + heights[name] > DEEPEST:
        raise _too_deep(f"more than {DEEPEST} calls deep", chain)
    return heights[name]


def _too_deep(problem: str, chain: tuple[str, ...]) -> StalledError:
    return StalledError(
        f"{problem}: {' -> '.join(chain)}",
        where=chain[0],
        reason="CallsTooDeep",
        remedy="remove one of these `uses`",
    )


def _refuse_other_source(name: str, caller: str) -> None:
    """Only the own source can be reached, not `source/name`."""
    if "/" in name:
        raise StalledError(
            f"the workflow {name!r} is of another source: this version runs those of its own only",
            where=caller,
            reason="CallUnknown",
            remedy="commit it to this source",
        )


def with_calls(body: str, bodies: Mapping[str, str]) -> str:
    """Return the body with those of the workflows it calls, by name, beside its spec.

    Raises:
        StalledError: CallsTooLarge.
    """
    called = calls_in(body)
    if not called:
        return body
    value = json.loads(body)
    size = len(body) + sum(len(bodies[name]) for name in called)
    if size > LARGEST:
        raise StalledError(
            f"with all that it calls it has {size:,} bytes, more than {LARGEST:,}",
            where=value["metadata"]["name"],
            reason="CallsTooLarge",
            remedy="call fewer workflows that call the same ones",
        )
    value["calls"] = {name: json.loads(bodies[name]) for name in called}
    return digest.canonical(value)
