"""Walks one section of a workflow: each step after its needs, so many at once."""

import asyncio
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from controller.clock import Clock
from controller.errors import StalledError
from controller.execute import rules
from controller.execute.attempts import Done, Interruption, Shop, StepAttempts
from controller.execute.cached import Answers, self_contained
from controller.execute.fan import Fan
from controller.execute.hooks import told
from controller.execute.rows import Rows
from controller.execute.slots import Slots
from controller.manifest.evaluate import condition
from controller.manifest.matrix import combinations
from controller.model.changes import Change, PutStep
from controller.model.run import Phase, StepRun
from controller.model.workflow import Json, Matrix, Step


class Without(NamedTuple):
    """How a row ends whose process is never started."""

    phase: Phase
    reason: str = ""
    message: str = ""


RUN_ENDED = Without(Phase.SKIPPED, rules.RUN_ENDED)
FAIL_FAST = Without(Phase.CANCELLED, rules.FAIL_FAST)


class Walk:
    """One section's steps. What ends, and what starts because of it, share a transaction."""

    def __init__(
        self,
        shop: Shop,
        steps: tuple[Step, ...],
        rows: Rows,
        *,
        slots: Slots,
        max_parallel: int | None,
    ) -> None:
        self._shop = shop
        self._clock: Clock = shop.clock
        self._steps = {step.name: step for step in steps}
        self._rows = rows  # of the whole run; replaced as steps end
        self._slots = slots
        self._limit = max_parallel or math.inf
        self._reads = {step.name: rules.uses(step) for step in steps}
        self._open = {  # how many needs of each step have not ended
            step.name: sum(self._waits_for(need) for need in step.needs) for step in steps
        }
        self._dependents: dict[str, list[str]] = {step.name: [] for step in steps}
        for step in steps:
            for need in step.needs:
                if need in self._dependents:
                    self._dependents[need].append(step.name)
        self._ready = [
            name for name, left in self._open.items() if left == 0 and not rows.ended(name)
        ]
        self._fans: dict[str, Fan] = {}  # of the matrix steps whose turn has come
        self._running: dict[asyncio.Task[Done], StepAttempts] = {}
        self._changes: list[Change] = []
        self._alone = {step.name for step in steps if shop.cached and self_contained(step)}
        self._answers = None if shop.cached is None else Answers(shop.cached)
        self.interruption = Interruption()

    def _waits_for(self, need: str) -> bool:
        return need in self._steps and not self._rows.ended(need)

    def interrupt(self, phase: Phase, reason: str) -> None:
        """End what runs, start nothing more. Called again, it takes patience away."""
        for interruption in (self.interruption, *(fan.interruption for fan in self._fans.values())):
            interruption.set(phase, reason)
        for attempts in self._running.values():
            attempts.interrupt()

    async def run(self) -> None:
        """Return when every step of the section has ended."""
        try:
            while True:
                await self._launch()
                if not self._running:
                    break
                ended, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    del self._running[task]
                    self._settle(task.result())
        finally:
            await self._abandon()
        self._skip_the_rest()
        self._shop.ledger.defer(*self._changes)

    async def _abandon(self) -> None:
        """Only when this walk itself is being cancelled is anything left to end."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    # What starts.

    async def _launch(self) -> None:
        """Start what is ready; write what has ended in the same transaction."""
        launches = await self._due()
        # A workflow that is a step holds no slot: its own steps want one each.
        now = {one: one.start() for one in launches if one.calls or self._slots.take()}
        self._changes += now.values()
        if launches or (self._changes and self._running):  # else the run's next word takes them
            await self._record()
        for one in launches:
            task = asyncio.create_task(one.run(now[one]) if one in now else self._when_free(one))
            self._running[task] = one
            if one in now and not one.calls:
                task.add_done_callback(lambda _: self._slots.release())

    async def _due(self) -> list[StepAttempts]:
        """Return what starts now; what doesn't run at all has ended meanwhile."""
        due: list[StepAttempts] = []
        while not self.interruption.phase and len(self._running) + len(due) < self._limit:
            fan = next((fan for fan in self._fans.values() if fan.has_room), None)
            if fan is not None:
                one = await self._begin_combination(fan)
            elif self._ready:
                one = await self._begin(self._steps[self._ready.pop(0)])
            else:
                break
            if one is not None:
                due.append(one)
        return due

    async def _begin(self, step: Step) -> StepAttempts | None:
        """Return a step's attempts, unless it doesn't run; a matrix step becomes a fan."""
        without = self._held_back(step)
        if without is None and not (step.matrix and rules.of_combination(step.when)):
            without = self._condition(step, None)
        if without is not None:
            self._end_all(step.name, without)
        elif step.matrix is not None:
            self._unfold(step, step.matrix)
        else:
            [row] = self._rows.of(step.name)
            return await self._attempts(step, row, self.interruption)
        return None

    def _unfold(self, step: Step, matrix: Matrix) -> None:
        rows = self._rows.of(step.name)
        if rows[0].matrix is None:
            try:
                values = combinations(matrix, self._shop.materials.scope)
            except StalledError as error:
                return self._end_all(step.name, Without(Phase.ERROR, error.reason, str(error)))
            if not values:
                return self._end_all(step.name, Without(Phase.SUCCEEDED))
            rows = self._rows.unfold(step.name, values)
            self._changes += [PutStep(step=row, at=self._clock.now()) for row in rows]
        self._fans[step.name] = Fan(step, matrix, rows)
        return None

    async def _begin_combination(self, fan: Fan) -> StepAttempts | None:
        row = self._rows.at(fan.step.name, fan.take())
        without = self._condition(fan.step, row.matrix) if fan.asks_each else None
        if without is None:
            return await self._attempts(fan.step, row, fan.interruption)
        self._after(self._put(row, without))
        return None

    async def _attempts(
        self, step: Step, row: StepRun, interruption: Interruption
    ) -> StepAttempts | None:
        """Return a row's attempts, unless it needs none: an alert, or a kept result serves it."""
        if step.alert is not None:
            self._settle(told(self._shop, step, row))
            return None
        if self._answers is None:
            return StepAttempts(self._shop, step, row, interruption)
        asked = await self._answers.of(step, row, self._known)
        if interruption.phase is not None:  # meanwhile
            self._after(self._put(row, self._unstarted))
        elif asked is None:
            return StepAttempts(self._shop, step, row, interruption)
        elif asked.entry is None:
            row = replace(row, cache=asked.told)
            return StepAttempts(self._shop, step, row, interruption, asked)
        else:
            self._settle(Done(*await self._answers.serve(asked, row)))
        return None

    def _known(self) -> Iterator[tuple[Step, StepRun]]:
        """Yield the rows whose keys are known by now: what is ready, and what waits for nobody."""
        for fan in self._fans.values():
            for index in fan.waiting:
                yield fan.step, self._rows.at(fan.step.name, index)
        names, self._alone = {*self._ready, *self._alone}, set()
        for step in (self._steps[name] for name in names):
            if step.matrix is None and not self._rows.ended(step.name):
                yield step, self._rows.at(step.name, 0)

    async def _when_free(self, attempts: StepAttempts) -> Done:
        try:
            with attempts.interruptible():
                await self._slots.acquire()
        except asyncio.CancelledError:
            if attempts.interruption.phase is None:
                raise
            return self._never_started(attempts)
        try:
            if attempts.interruption.phase is not None:
                return self._never_started(attempts)
            begun = attempts.start()
            await self._shop.ledger.record(begun)
            return await attempts.run(begun)
        finally:
            self._slots.release()

    @property
    def _unstarted(self) -> Without:
        """How a row ends whose turn had come when it was interrupted."""
        return RUN_ENDED if self.interruption.phase else FAIL_FAST

    def _never_started(self, attempts: StepAttempts) -> Done:
        row = self._rows.at(attempts.name, attempts.index)
        ended = self._ended(row, self._unstarted)
        return Done(ended, (PutStep(step=ended, at=self._clock.now()),))

    # What ends.

    def _settle(self, done: Done) -> None:
        self._changes += done.changes
        self._rows.put(done.step)
        self._after(done.step)

    def _end_all(self, name: str, without: Without) -> None:
        """End a step that has not ended, with every row of it that has not."""
        for row in tuple(self._rows.of(name)):
            if not row.phase.terminal:
                self._put(row, without)
        self._step_ended(name)

    def _put(self, row: StepRun, without: Without) -> StepRun:
        ended = self._ended(row, without)
        self._changes.append(PutStep(step=ended, at=self._clock.now()))
        self._rows.put(ended)
        return ended

    def _ended(self, row: StepRun, without: Without) -> StepRun:
        return replace(
            row,
            phase=without.phase,
            reason=without.reason,
            error=without.message,
            finished_at=self._clock.now(),
        )

    def _after(self, row: StepRun) -> None:
        """Do what follows from a row that has ended."""
        fan = self._fans.get(row.name)
        if fan is not None:
            fan.ended(row)
            if fan.gives_up_after(row):
                self._fail_fast(fan)
        if self._rows.ended(row.name):
            self._step_ended(row.name)

    def _fail_fast(self, fan: Fan) -> None:
        fan.interruption.set(FAIL_FAST.phase, FAIL_FAST.reason)
        for attempts in self._running.values():
            if attempts.name == fan.step.name:
                attempts.interrupt()
        for index in fan.give_up():
            self._put(self._rows.at(fan.step.name, index), FAIL_FAST)

    def _step_ended(self, name: str) -> None:
        self._fans.pop(name, None)
        self._shop.materials.note(self._steps[name], self._rows.of(name))
        for dependent in self._dependents[name]:
            self._open[dependent] -= 1
            if self._open[dependent] == 0 and not self._rows.ended(dependent):
                self._ready.append(dependent)

    # What doesn't run.

    def _held_back(self, step: Step) -> Without | None:
        """Return how a step ends that its needs keep from running; None when they don't."""
        held = rules.held(step, self._reads[step.name], self._steps, self._rows.of)
        return None if held is None else Without(Phase.SKIPPED, *held)

    def _condition(self, step: Step, matrix: Mapping[str, Json] | None) -> Without | None:
        """Return how a step, or one combination of it, ends by its `when`; None when it runs."""
        if step.when is None:
            return None
        try:
            if condition(step.when, self._shop.materials.scope_of(matrix)):
                return None
        except StalledError as error:
            return Without(Phase.ERROR, error.reason, str(error))
        return Without(Phase.SKIPPED, rules.CONDITION_FALSE, step.when)

    def _skip_the_rest(self) -> None:
        for name in self._steps:
            if not self._rows.ended(name):
                self._end_all(name, RUN_ENDED)

    async def _record(self) -> None:
        changes, self._changes = self._changes, []
        await self._shop.ledger.record(*changes)
