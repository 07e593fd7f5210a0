"""What `rondel plan` prints."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from controller.cli.common import Format, print_json, print_yaml
from controller.model.view import fault_view
from controller.reconcile.preview import Action, Preview
from controller.sides import Comparison

SIGNS = {"Added": "+", "Changed": "~", "Removed": "-", "None": " "}


def tell(results: Sequence[Comparison], base: str | None, head: str | None, output: Format) -> None:
    if output in {Format.JSON, Format.YAML}:
        shown = {
            "base": base,
            "head": head,
            "workflows": [
                as_json(result.source, one) for result in results for one in result.previews
            ],
            "invalid": [fault_view(fault) for result in results for fault in result.invalid],
        }
        (print_json if output is Format.JSON else print_yaml)(shown)
        return
    for result in results:
        tell_source(result)


def as_json(source: str, one: Preview) -> dict[str, Any]:
    return {
        "source": source,
        "name": one.name,
        "change": str(one.change),
        "action": str(one.action),
        "causes": [asdict(cause) for cause in one.causes],
    }


def tell_source(found: Comparison) -> None:
    source, previews, invalid = found.source, found.previews, found.invalid
    moved = [one for one in previews if one.causes]
    for one in moved:
        print(f"{SIGNS[one.change]} {source}/{one.name}: {WORDS[one.action]}")
        for cause in one.causes:
            about = f" (input {cause.input})" if cause.input else ""
            print(f"    {cause.message}: {cause.file or ''}{about}")
    for fault in invalid:
        print(f"! {fault}")
    same = len(previews) - len(moved)
    print(f"{source}: {len(moved)} changed, {same} unchanged, {len(invalid)} faults")


WORDS = {
    Action.RUN: "runs now",
    Action.AT_SLOT: "runs at its next slot",
    Action.NOTHING: "nothing runs by itself",
    Action.RETIRE: "is retired",
}
