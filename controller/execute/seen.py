"""A step that has ended, as later steps see it: a matrix step as one step with lists."""

from collections.abc import Sequence
from typing import Any

from controller.model.run import Phase, StepRun
from controller.model.workflow import Step

WORST_FIRST = (
    Phase.INTERRUPTED,  # only hooks and finally of a run whose controller was lost see it
    Phase.ERROR,
    Phase.FAILED,
    Phase.CANCELLED,
    Phase.SKIPPED,
    Phase.SUCCEEDED,
)


def seen(step: Step, rows: Sequence[StepRun]) -> dict[str, Any]:
    """Return what `steps.X` is in an expression.

    Of a matrix step, exit codes, outputs and artifacts are lists in the order of its combinations,
    null for one that has none.
    """
    if step.matrix is None:
        [row] = rows
        return {
            "phase": str(row.phase),
            "exitCode": row.exit_code,
            "outputs": row.outputs,
            "artifacts": row.artifacts,
        }
    each = combined(rows)
    return {
        "phase": str(min((row.phase for row in rows), key=WORST_FIRST.index)),
        "exitCode": [row.exit_code for row in each],
        "outputs": {name: [row.outputs.get(name) for row in each] for name in outputs(step, each)},
        "artifacts": {
            one.name: [row.artifacts.get(one.name) for row in each] for one in step.artifacts
        },
    }


def outputs(step: Step, rows: Sequence[StepRun]) -> list[str]:
    """Return the names of a step's outputs; those of a called workflow stand elsewhere."""
    if step.uses is None:
        return [one.name for one in step.outputs]
    return list(dict.fromkeys(name for row in rows for name in row.outputs))


def combined(rows: Sequence[StepRun]) -> list[StepRun]:
    """Return the rows of combinations: none when there are none, or none were ever known."""
    return [row for row in rows if row.matrix is not None]
