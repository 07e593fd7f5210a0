"""A matrix step whose turn has come: which of its combinations starts next."""

from collections import deque
from collections.abc import Iterable

from controller.execute import rules
from controller.execute.attempts import Interruption
from controller.model.run import StepRun
from controller.model.workflow import Matrix, Step


class Fan:
    """Combinations start in their order, `maxParallel` at once."""

    def __init__(self, step: Step, matrix: Matrix, rows: Iterable[StepRun]) -> None:
        self.step = step
        self.interruption = Interruption()  # the walk's, or failFast's own
        self.asks_each = rules.of_combination(step.when)
        self._limit = matrix.max_parallel
        self._fail_fast = matrix.fail_fast
        self._waiting = deque(row.index for row in rows if not row.phase.terminal)
        self._going: set[int] = set()

    @property
    def has_room(self) -> bool:
        return bool(self._waiting) and (self._limit is None or len(self._going) < self._limit)

    @property
    def waiting(self) -> tuple[int, ...]:
        """The indexes of those that have not begun."""
        return tuple(self._waiting)

    def take(self) -> int:
        """Return the index of the combination that goes next."""
        index = self._waiting.popleft()
        self._going.add(index)
        return index

    def ended(self, row: StepRun) -> None:
        self._going.discard(row.index)

    def gives_up_after(self, row: StepRun) -> bool:
        """Tell whether this ending is the one that ends the others (failFast)."""
        return (
            self._fail_fast
            and self.interruption.phase is None
            and row.phase.bad
            and not rules.forgiven(self.step, row)
        )

    def give_up(self) -> list[int]:
        """Return the indexes of those that never start now."""
        left = list(self._waiting)
        self._waiting.clear()
        return left
