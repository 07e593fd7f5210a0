"""Walks one section of a workflow: each step after its needs, so many at once."""

import asyncio
from dataclasses import replace

from controller.clock import Clock
from controller.errors import StalledError
from controller.execute import rules
from controller.execute.attempts import Done, Interruption, Shop, StepAttempts
from controller.execute.cached import Asked, Cached, Place, self_contained
from controller.execute.slots import Slots
from controller.manifest.evaluate import condition
from controller.model.changes import Change, PutStep
from controller.model.run import Phase, StepRun
from controller.model.workflow import Step

Rows = dict[str, StepRun]


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
        self._rows = rows  # of the whole run, by name; replaced as steps end
        self._slots = slots
        self._limit = max_parallel or len(steps)
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
            name for name, left in self._open.items() if left == 0 and self._unended(name)
        ]
        self._running: dict[asyncio.Task[Done], StepAttempts] = {}
        self._changes: list[Change] = []
        self._cached = shop.cached
        self._asked: set[str] = set()  # of the ledger of results
        self._answers: dict[Place, Asked] = {}
        self.interruption = Interruption()

    def _unended(self, name: str) -> bool:
        return not self._rows[name].phase.terminal

    def _waits_for(self, need: str) -> bool:
        return need in self._steps and self._unended(need)

    def interrupt(self, phase: Phase, reason: str) -> None:
        """End what runs, start nothing more. Called again, it takes patience away."""
        self.interruption.set(phase, reason)
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
                    self._settle(self._running.pop(task).name, task.result())
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

    async def _launch(self) -> None:
        """Start what is ready; write what has ended in the same transaction."""
        launches: list[StepAttempts] = []
        while self._ready and not self.interruption.phase:
            if len(self._running) + len(launches) >= self._limit:
                break
            name = self._ready.pop(0)
            skipped = self._skip_reason(self._steps[name])
            if skipped is not None:
                self._end(skipped)
                continue
            if self._cached is not None and await self._served(self._cached, name):
                continue
            launches.append(self._attempts(name))
        now = [one for one in launches if self._slots.take()]
        self._changes += [one.start_change(one.first) for one in now]
        if launches or (self._changes and self._running):  # else the run's next word takes them
            await self._record()
        for one in launches:
            task = asyncio.create_task(one.run() if one in now else self._when_free(one))
            self._running[task] = one
            if one in now:
                task.add_done_callback(lambda _: self._slots.release())

    def _attempts(self, name: str) -> StepAttempts:
        row, asked = self._rows[name], self._answers.pop((name, 0), None)
        if asked is not None:
            row = replace(row, cache=asked.told)
        return StepAttempts(self._shop, self._steps[name], row, self.interruption, asked)

    async def _served(self, cached: Cached, name: str) -> bool:
        """End a step that a kept result serves, or that was interrupted while that was asked."""
        if name not in self._asked:
            await self._ask(cached, name)
        if self.interruption.phase:
            self._end(self._skipped(name, rules.RUN_ENDED, ""))
            return True
        asked = self._answers.get((name, 0))
        if asked is None or asked.entry is None:
            return False
        self._settle(name, Done(*await cached.serve(asked, self._rows[name])))
        return True

    async def _ask(self, cached: Cached, name: str) -> None:
        """Ask for this step and all whose keys are known by now: one look-up for many."""
        names = [name, *(one for one in self._ready if one not in self._asked)]
        if not self._asked:
            known = {one for one, step in self._steps.items() if self_contained(step)}
            names += [one for one in known.difference(names) if self._unended(one)]
        self._asked.update(names)
        self._answers |= await cached.ask((self._steps[one], self._rows[one]) for one in names)

    async def _when_free(self, attempts: StepAttempts) -> Done:
        try:
            with attempts.interruptible():
                await self._slots.acquire()
        except asyncio.CancelledError:
            if self.interruption.phase is None:
                raise
            return self._never_started(attempts.name)
        try:
            if self.interruption.phase is not None:
                return self._never_started(attempts.name)
            await self._shop.ledger.record(attempts.start_change(attempts.first))
            return await attempts.run()
        finally:
            self._slots.release()

    def _never_started(self, name: str) -> Done:
        row = self._skipped(name, rules.RUN_ENDED, "")
        return Done(row, (PutStep(step=row, at=self._clock.now()),))

    def _settle(self, name: str, done: Done) -> None:
        self._changes += done.changes
        self._note(name, done.step)

    def _end(self, row: StepRun) -> None:
        self._changes.append(PutStep(step=row, at=self._clock.now()))
        self._note(row.name, row)

    def _note(self, name: str, row: StepRun) -> None:
        self._rows[name] = row
        self._shop.materials.note(row)
        for dependent in self._dependents[name]:
            self._open[dependent] -= 1
            if self._open[dependent] == 0 and self._unended(dependent):
                self._ready.append(dependent)

    def _skip_reason(self, step: Step) -> StepRun | None:
        """Return the row of a step that doesn't run; None when it does."""
        needs = [
            (self._steps[need], self._rows[need]) for need in step.needs if need in self._steps
        ]
        held = rules.held_back(self._reads[step.name], needs, has_when=step.when is not None)
        if held is not None:
            return self._skipped(step.name, *held)
        if step.when is None:
            return None
        try:
            if condition(step.when, self._shop.materials.scope):
                return None
        except StalledError as error:
            return self._broken(step.name, error)
        return self._skipped(step.name, rules.CONDITION_FALSE, step.when)

    def _broken(self, name: str, error: StalledError) -> StepRun:
        return replace(
            self._rows[name],
            phase=Phase.ERROR,
            reason=error.reason,
            error=str(error),
            finished_at=self._clock.now(),
        )

    def _skipped(self, name: str, reason: str, message: str) -> StepRun:
        return replace(
            self._rows[name],
            phase=Phase.SKIPPED,
            reason=reason,
            error=message,
            finished_at=self._clock.now(),
        )

    def _skip_the_rest(self) -> None:
        for name in self._steps:
            if self._unended(name):
                self._end(self._skipped(name, rules.RUN_ENDED, ""))

    async def _record(self) -> None:
        changes, self._changes = self._changes, []
        await self._shop.ledger.record(*changes)
