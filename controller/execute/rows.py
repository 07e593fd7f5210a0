"""The rows of a run's steps: one each, of a matrix step one for each combination, in order."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from controller.errors import StalledError
from controller.execute.sections import sections
from controller.manifest.matrix import combinations
from controller.manifest.template import OPENING
from controller.model.run import StepRun
from controller.model.workflow import Json, Step, Workflow


class Rows:
    """Every step has at least one row. A row whose matrix is null stands for the whole step."""

    def __init__(self, rows: Iterable[StepRun] = ()) -> None:
        self._rows = by_step(rows)

    @classmethod
    def of_workflow(cls, run: str, workflow: Workflow) -> "Rows":
        """Return the Pending rows of a run that begins.

        A matrix that holds no expression is unfolded now, others when their turn comes.
        """
        made = cls(
            StepRun(run=run, name=step.name, section=section, position=position)
            for position, (section, step) in enumerate(sections(workflow))
        )
        for step in workflow.every_step:
            if step.matrix is not None:
                made.unfold(step.name, known_now(step))
        return made

    def of(self, name: str) -> Sequence[StepRun]:
        """Return the rows of one step, in the order of its combinations."""
        return self._rows[name]

    def at(self, name: str, index: int) -> StepRun:
        return self._rows[name][index]

    def put(self, row: StepRun) -> None:
        """Replace the row of the same step and combination."""
        self._rows[row.name][row.index] = row

    def restore(self, rows: Iterable[StepRun]) -> None:
        """Replace the rows of every step that is named by what the store holds."""
        self._rows |= by_step(rows)

    def unfold(self, name: str, values: Sequence[Mapping[str, Json]]) -> Sequence[StepRun]:
        """Make one row of each combination; of none, the step keeps the row it has."""
        whole = self._rows[name][0]
        if values:
            self._rows[name] = [
                replace(whole, index=index, matrix=one) for index, one in enumerate(values)
            ]
        return self._rows[name]

    def ended(self, name: str) -> bool:
        return all(row.phase.terminal for row in self._rows[name])

    def __iter__(self) -> Iterator[StepRun]:
        return (row for rows in self._rows.values() for row in rows)


def by_step(rows: Iterable[StepRun]) -> dict[str, list[StepRun]]:
    found: dict[str, list[StepRun]] = {}
    for row in sorted(rows, key=lambda row: row.index):
        found.setdefault(row.name, []).append(row)
    return found


def known_now(step: Step) -> Sequence[Mapping[str, Json]]:
    """Return the combinations that no expression decides; none where one does, or where they fail.

    What is wrong with them is told when the step's turn comes.
    """
    if step.matrix is None or OPENING in repr(step.matrix):
        return ()
    try:
        return combinations(step.matrix, {})
    except StalledError:
        return ()
