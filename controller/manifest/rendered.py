"""A manifest as it will be used: workflow defaults applied, implied needs written out."""

from typing import Any

from controller.manifest import needs, tree
from controller.manifest.around import PLAIN, Around
from controller.manifest.build import SECTIONS, with_defaults
from controller.manifest.template import expressive


def as_written(data: bytes, document: int) -> dict[str, Any]:
    """Return one valid document of a file as its author wrote it."""
    value: dict[str, Any] = tree.value(tree.read(data).trees[document].root)
    return value


def rendered(data: bytes, document: int, around: Around = PLAIN) -> dict[str, Any]:
    """Return one valid document of a file, its keys in the author's order.

    Args:
        data: the file's bytes.
        document: which one, from 0, as ParsedDocument counts.
        around: the Defaults it stands under.
    """
    value = around.applied(as_written(data, document))
    spec = value["spec"]
    full = {key: item for key, item in spec.items() if key != "defaults"}
    for section in SECTIONS:
        if section in spec:
            full[section] = _section(spec, section)
    return {**value, "spec": full}


def _section(spec: dict[str, Any], section: str) -> list[dict[str, Any]]:
    found = needs.needs_of(spec, section, list(expressive(spec)))
    steps = []
    for raw in spec[section]:
        step = dict(with_defaults(raw, spec.get("defaults", {})))
        before = {"needs": list(found[raw["name"]])} if found[raw["name"]] else {}
        steps.append({"name": raw["name"], **before, **_others(raw, step)})
    return steps


def _others(raw: dict[str, Any], step: dict[str, Any]) -> dict[str, Any]:
    """The author's keys first, then what the defaults added."""
    order = dict.fromkeys((*raw, *step))
    return {key: step[key] for key in order if key not in {"name", "needs"}}
