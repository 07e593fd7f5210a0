"""What a step's result is kept under: everything that can change it, part by part.

Not in it: names of steps, needs, `when`, retry, timeouts, ttl, `RONDEL_*`, names of a matrix: they
decide whether and when a step runs, never what comes of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from controller import digest
from controller.model.cache import CacheEntry
from controller.model.workflow import UNSET, Json, Mount, Service, Step

FORMAT = 1
"""Counted up whenever the same parts come to mean another result."""

LONGEST = 100  # characters of a value that is told

Difference = Mapping[str, Json]
"""{"part", "was", "now"}: values as text; None where one side has no such part."""


def parts(
    step: Step,
    *,
    image: str,
    inputs: Mapping[str, str],
    artifacts: Mapping[str, Json],
    secrets: Mapping[str, str],
    executor: str,
) -> dict[str, Json]:
    """Return the parts of an evaluated step's key, by speaking names.

    Args:
        step: with its expressions evaluated, services' images by digest.
        image: by digest when that is known, else its text.
        inputs: name -> digest.
        artifacts: "step.artifact" -> digest; of a matrix step a list of them.
        secrets: name -> configured version; values never come here.
        executor: `dagger` or `local`.
    """
    return {
        "format": FORMAT,
        "executor": executor,
        **command(step),
        **{f"env.{name}": value for name, value in step.env.items() if value is not None},
        **{f"service.{one.name}": service(one) for one in step.services},
        **grouped(("mount", one.path, content(one, inputs, artifacts)) for one in step.mounts),
        **grouped(("cache", one.key, one.path) for one in step.caches),
        **grouped(
            ("secret", one.secret, [one.name, one.file, secrets.get(one.secret, "")])
            for one in step.secrets
        ),
        **said(
            image=image,
            outputs=[output(one) for one in step.outputs],
            artifacts={one.name: one.path for one in step.artifacts},
            workdir=step.workdir,
            user=step.user,
        ),
    }


def said(**values: Json) -> dict[str, Json]:
    """Return those that say something: most steps say little, and keys are read by people."""
    return {name: value for name, value in values.items() if value}


def key(of: Mapping[str, Json]) -> str:
    """Return the digest of a key's parts: "sha256:..."."""
    return digest.of_value(of)


def command(step: Step) -> dict[str, Json]:
    """Return what is executed: the one of script, args, inputs of an agent, module."""
    found: dict[str, Json] = {}
    if step.script is not None:
        found |= {"script": digest.sha256(step.script), "shell": list(step.shell)}
    if step.args:  # none at all and () are the same: the image's own command
        found["args"] = list(step.args)
    if step.inputs is not None:
        found["inputs"] = step.inputs
    if step.module is not None:
        one = step.module
        found["module"] = {
            "ref": one.ref,
            "version": one.version,
            "call": one.call,
            "args": dict(one.args),
        }
    return found


def service(one: Service) -> Json:
    return {
        "image": one.image,
        "args": None if one.args is None else list(one.args),
        "script": None if one.script is None else digest.sha256(one.script),
        "env": {name: value for name, value in one.env.items() if value is not None},
        "port": one.ready_port,
    }


def content(mount: Mount, inputs: Mapping[str, str], artifacts: Mapping[str, Json]) -> Json:
    """Return the digest of what is mounted, or the list of them."""
    return artifacts[mount.artifact] if mount.artifact else inputs[mount.input or ""]


def output(one: Any) -> Json:
    default = {} if one.default is UNSET else {"default": one.default}
    return {"name": one.name, "path": one.path, "type": str(one.type), **default}


def grouped(found: Iterable[tuple[str, str, Json]]) -> dict[str, Json]:
    """Return "<kind>.<name>" -> the values of that name, in their order: one may be used twice."""
    groups: dict[str, Json] = {}
    for kind, name, value in found:
        groups.setdefault(f"{kind}.{name}", []).append(value)
    return groups


def differing(was: Mapping[str, Json], now: Mapping[str, Json]) -> list[Difference]:
    """Return the parts that differ between two keys, in the order of their names."""
    return [
        {"part": name, "was": told(was.get(name)), "now": told(now.get(name))}
        for name in sorted({*was, *now})
        if (name in was) != (name in now)
        or digest.canonical(was[name]) != digest.canonical(now[name])  # to Python, 1 == True
    ]


def nearest(
    candidates: Sequence[Mapping[str, Json]], now: Mapping[str, Json]
) -> tuple[int, list[Difference]] | None:
    """Return which of the candidates differs least, and in what; the first of several."""
    compared = [(at, differing(one, now)) for at, one in enumerate(candidates)]
    return min(compared, key=lambda one: len(one[1]), default=None)


def explained(
    now: Mapping[str, Json], why: str, candidates: Sequence[CacheEntry]
) -> dict[str, Json]:
    """Return what a step's row says of a miss: "why" when a result was there, "nearest", "differs".

    `candidates` are results of the same step; "nearest" is the run that made the one most alike.
    """
    if why:
        return {"why": why}
    found = nearest([one.parts for one in candidates], now)
    if found is None:
        return {}
    at, differs = found
    return {"nearest": candidates[at].run, "differs": [dict(one) for one in differs]}


def told(value: Json) -> str | None:
    """Return a part's value as short text."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if value is None:
        return None
    text = value if isinstance(value, str) else digest.canonical(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."


def in_words(difference: Difference) -> str:
    """Return a difference as a person would say it: `env.REGION was "eu", is "us"`."""
    part, was, now = difference["part"], difference["was"], difference["now"]
    if was is None:
        return f"{part} is new"
    if now is None:
        return f"{part} is gone"
    if part.startswith("mount.") or part == "script":
        return f"the content of {part} changed"
    return f"{part} was {was}, is {now}"
