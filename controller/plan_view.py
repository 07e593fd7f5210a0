"""A comparison as JSON, for the command line and the API alike."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from controller.model import view
from controller.reconcile.preview import Preview
from controller.sides import Comparison


def as_json(results: Sequence[Comparison], base: str | None, head: str | None) -> dict[str, Any]:
    """Return the comparison in the names that are fixed, what else follows under new ones."""
    return {
        "base": base,
        "head": head,
        "workflows": [workflow(each.source, one) for each in results for one in each.previews],
        "invalid": [view.fault_view(fault) for each in results for fault in each.invalid],
        "schedules": [
            {
                "source": each.source,
                **asdict(one),
                "before": [view.time(moment) for moment in one.before],
                "after": [view.time(moment) for moment in one.after],
            }
            for each in results
            for one in each.consequences.schedules
        ],
        "images": [
            {"source": each.source, **asdict(one)}
            for each in results
            for one in each.consequences.images
        ],
        "widened": [
            {"source": each.source, **asdict(one), "kind": str(one.kind)}
            for each in results
            for one in each.consequences.widened
        ],
    }


def workflow(source: str, one: Preview) -> dict[str, Any]:
    return {
        "source": source,
        "name": one.name,
        "change": str(one.change),
        "action": str(one.action),
        "causes": [asdict(cause) for cause in one.causes],
        "steps": [asdict(step) | {"fate": str(step.fate)} for step in one.steps],
    }
