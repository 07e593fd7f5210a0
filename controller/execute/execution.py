"""One run from its claim to its end: prepare, steps, hooks, finally, settle."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from controller import layout
from controller.disk import room_for
from controller.errors import RondelError, StalledError, TransientError, UsageError
from controller.execute import rules
from controller.execute.attempts import Shop
from controller.execute.cached import cached_of
from controller.execute.house import House
from controller.execute.logs import LogSegment
from controller.execute.materialise import (
    Requeued,
    clear,
    keep,
    materialise,
    moved_on,
)
from controller.execute.ports import Executor
from controller.execute.request import Materials
from controller.execute.rows import Rows
from controller.execute.rules import Verdict
from controller.execute.run_ledger import RunLedger, Sealing
from controller.execute.scrub import Scrubber
from controller.execute.sections import hook_for, hooks_of
from controller.execute.sessions import Sessions
from controller.execute.walk import Walk
from controller.manifest import build
from controller.manifest.evaluate import condition
from controller.manifest.expression import render
from controller.manifest.params import resolve_params
from controller.model.changes import (
    Change,
    CreateRun,
    FinishRun,
    PutStep,
    RequeueRun,
    StartRun,
)
from controller.model.run import Attempt, Phase, Run, StepRun
from controller.model.workflow import Json, Step, Workflow, WorkflowCall
from controller.reconcile.rerun import is_again
from controller.reconcile.retry import delay
from controller.reconcile.runs import called_run

HEARD_SECONDS = 0.02  # until a cancelled attempt has begun to end its processes


class Execution:
    """One run being executed."""

    def __init__(
        self,
        house: House,
        run: Run,
        workflow: Workflow,
        executor: Executor,
        *,
        call: "Callable[[Run, Workflow], Awaitable[Execution]]",
        rows: Iterable[StepRun] = (),
    ) -> None:
        self._call_engine = call
        self.verdict = Verdict(Phase.PENDING)  # once it has ended, what it came to
        self.outputs: Mapping[str, Json] = {}
        self._house = house
        self.run = run
        self._workflow = workflow
        self._executor = executor
        self._folder = layout.work(house.state_dir) / run.id
        self._rows = Rows.of_workflow(run.id, workflow)
        self._rows.restore(rows)
        self._steps = {step.name: step for step in workflow.every_step}
        self._again = is_again(run)  # its inputs are those that it had
        self._ended: Verdict | None = None  # what ended the run from outside
        self._now = False  # cancelled without hooks and finally
        self._walk: Walk | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._sessions = Sessions(executor, run, workflow)
        self._scrubber = Scrubber(())
        self._ledger = RunLedger(house.ledger, house.blobs)
        self._patterns = [re.compile(one) for one in house.infrastructure.patterns]
        self._materials = Materials(
            run=run,
            workflow=workflow,
            folder=self._folder,
            blobs=house.blobs,
            secrets={},
            cache_scope=house.cache_scope(run.source),
        )
        self._cached = cached_of(
            house, self._materials, executor=executor.name, resolve=self._sessions.resolve_image
        )

    # From outside.

    def cancel(self, verdict: Verdict, *, now: bool = False) -> None:
        """End the steps (and with `now` hooks and finally too); safe to call again."""
        self._now = self._now or now
        if self._ended is None:
            self._ended = verdict
        if self._preparing is not None:
            self._preparing.cancel()
        if self._walk is not None and (now or self._walk_interruptible):
            self._walk.interrupt(Phase.CANCELLED, verdict.reason)
            if now:  # a second word, once the first was heard, is that there is no more grace
                asyncio.get_running_loop().call_later(HEARD_SECONDS, self._hurry, self._walk)

    def _hurry(self, walk: Walk) -> None:
        walk.interrupt(Phase.CANCELLED, "")

    # The run's life.

    async def execute(self) -> Phase:
        """Run what has not ended; return the phase. Never raises for what a run can do wrong."""
        try:
            return await self._execute()
        except Requeued:
            return Phase.PENDING
        finally:
            await self._clean_up()

    async def _execute(self) -> Phase:
        refused = self._refused()
        if refused is not None:
            return await self._finish(refused)
        try:
            self._preparing = asyncio.create_task(self._prepare())
            await self._preparing
        except asyncio.CancelledError:
            if self._ended is None:
                raise
            return await self._finish(self._ended)
        except (StalledError, TransientError) as error:
            return await self._finish(Verdict(Phase.ERROR, error.reason, str(error)))
        finally:
            self._preparing = None
        self._start()
        self._note_ended()
        self._keeping = asyncio.create_task(keep(self._house, self.run, self._materials.inputs))
        return await self._finish(await self._through_sections())

    def _refused(self) -> Verdict | None:
        refusal = self._executor.refusal(self._workflow)
        if refusal is not None:
            return Verdict(Phase.ERROR, *refusal)
        self._materials.begin()
        try:
            if self._workflow.when and not condition(self._workflow.when, self._materials.scope):
                return Verdict(Phase.SKIPPED, rules.CONDITION_FALSE, self._workflow.when)
        except StalledError as error:
            return Verdict(Phase.ERROR, error.reason, str(error))
        return None

    # Before the first step.

    async def _prepare(self) -> None:
        """Secrets, inputs, a session: what can be tried again is, within the daemon's budget."""
        tried = 0
        while True:
            try:
                with room_for(self._folder):
                    await self._prepare_once()
            except TransientError as error:
                tried += 1
                budget = self._house.infrastructure
                if tried > budget.limit:
                    raise
                wait = delay(budget.backoff, self.run.id, error.reason, tried)
                await asyncio.sleep(wait.total_seconds())
            else:
                return

    async def _prepare_once(self) -> None:
        if not self._sessions.open:
            names = tuple(
                sorted({use.secret for one in self._steps.values() for use in one.secrets})
            )
            self._materials.secrets = await self._house.secrets.resolve(self.run.source, names)
            self._scrubber = Scrubber(value for _, value in self._materials.secrets.values())
            await self._sessions.begin()
        if self._cached is not None:
            await self._cached.resolve_images()
        await self._materialise()

    async def _materialise(self) -> None:
        digests, places = await materialise(
            self._house, self.run, self._workflow, self._folder, again=self._again
        )
        moved = [] if self._again else moved_on(self.run.inputs, digests)
        if moved:
            message = f"inputs changed while the run waited: {', '.join(moved)}"
            now = self._house.clock.now()
            await self._ledger.record(
                RequeueRun(run=self.run.id, reason="SourceChanged", message=message, at=now)
            )
            raise Requeued
        self.run = replace(self.run, inputs=digests)
        self._materials.run, self._materials.inputs = self.run, places
        self._materials.begin()

    def _start(self) -> None:
        self._ledger.defer(
            StartRun(
                run=self.run.id,
                at=self._house.clock.now(),
                executor=self._executor.name,
                revision=self.run.revision,
                inputs=self.run.inputs,
                versions=self._sessions.versions,
                steps=tuple(self._rows),
            )
        )

    # Steps, hooks, finally.

    async def _through_sections(self) -> Verdict:
        await self._section(
            self._workflow.steps, self._workflow.timeout, Phase.FAILED, interruptible=True
        )
        return await self.after(rules.verdict(self._ended, self._finished()))

    async def after(self, verdict: Verdict) -> Verdict:
        """Run the hooks that the verdict calls for, then finally; return the last word."""
        self._materials.note_phase(verdict.phase)
        for section, hooks in hooks_of(self._workflow):
            due = hooks if section is hook_for(verdict.phase) else ()
            await self._reserved(due, hooks)
        after_hooks = rules.verdict(self._ended, self._finished(), verdict)
        self._materials.note_phase(after_hooks.phase)
        await self._reserved(self._workflow.finally_, self._workflow.finally_)
        return rules.verdict(self._ended, self._finished(), after_hooks)

    async def _reserved(self, due: tuple[Step, ...], every: tuple[Step, ...]) -> None:
        """Run hooks or finally steps in the time kept for them; what isn't due is skipped."""
        if due and not self._now:
            await self._section(due, self._workflow.finally_timeout, Phase.FAILED)
        elif every:
            walk = self._new_walk(every)
            walk.interrupt(Phase.SKIPPED, rules.RUN_ENDED)
            await walk.run()

    _walk_interruptible = False

    async def _section(
        self,
        steps: tuple[Step, ...],
        limit: timedelta,
        on_timeout: Phase,
        *,
        interruptible: bool = False,
    ) -> None:
        self._walk = self._new_walk(steps)
        self._walk_interruptible = interruptible
        if interruptible and self._ended is not None:
            self._walk.interrupt(Phase.CANCELLED, self._ended.reason)
        timer = asyncio.get_running_loop().call_later(
            limit.total_seconds(), self._timed_out, self._walk, on_timeout, interruptible
        )
        try:
            await self._walk.run()
        finally:
            timer.cancel()
            self._walk = None

    def _timed_out(self, walk: Walk, phase: Phase, of_the_run: bool) -> None:
        if of_the_run and self._ended is None:
            message = f"over its timeout of {self._workflow.timeout}"
            self._ended = Verdict(Phase.FAILED, "Timeout", message)
        walk.interrupt(phase, "Timeout")

    def _new_walk(self, steps: tuple[Step, ...]) -> Walk:
        return Walk(
            self._shop(),
            steps,
            self._rows,
            slots=self._house.slots,
            max_parallel=self._workflow.max_parallel,
        )

    def _shop(self) -> Shop:
        return Shop(
            ledger=self._ledger,
            blobs=self._house.blobs,
            clock=self._house.clock,
            materials=self._materials,
            infrastructure=self._house.infrastructure,
            is_transient=lambda text: any(one.search(text) for one in self._patterns),
            session=self._sessions.current,
            drop=self._sessions.drop,
            segment=self._segment,
            seal=self._seal,
            scrub=self._scrub,
            cached=self._cached,
            call=self._call,
            alert_problem=self._house.alert_problem,
        )

    def _finished(self) -> list[tuple[Step, StepRun]]:
        return [(self._steps[row.name], row) for row in self._rows if row.phase.terminal]

    async def _call(
        self, wanted: WorkflowCall, attempt: Attempt
    ) -> tuple[str, Verdict, Mapping[str, Json]]:
        """Run another workflow as a step, as a run of its own."""
        if not wanted.body:
            problem = f"the workflow {wanted.workflow!r} was not pinned with its caller"
            raise StalledError(problem, where=attempt.step, reason="CallUnknown")
        workflow = build.workflow(wanted.body)
        run = called_run(self.run, workflow.name, attempt, self._house.clock.now())
        run = replace(run, spec=wanted.body, instance=self.run.instance)
        try:
            run = replace(run, params=resolve_params(workflow, wanted.params, run))
        except UsageError as error:
            raise StalledError(str(error), where=attempt.step, reason="InvalidParams") from error
        ended = await self._call_engine(run, workflow)
        return run.id, ended.verdict, ended.outputs

    # Logs.

    def _segment(self, attempt: Attempt, label: str) -> LogSegment:
        told = self._house.on_line
        run, step, index, number = attempt.run, attempt.step, attempt.index, attempt.number
        return LogSegment(
            layout.segment(self._house.state_dir, run, step, index, number),
            scrubber=self._scrubber,
            clock=self._house.clock,
            max_size=self._house.log_max_size,
            on_line=None
            if told is None
            else lambda stream, text, _: told(run, label, number, stream, text),
        )

    def _seal(self, segment: LogSegment, attempt: Attempt) -> Sealing | None:
        return self._ledger.seal(segment.path, attempt, truncated=segment.truncated)

    # The end.

    async def _finish(self, verdict: Verdict, *beside: Change) -> Phase:
        """End the run; `beside` is written by the same transaction."""
        if self._keeping is not None:
            await self._keeping
        await self._ledger.settled()
        verdict, outputs = self._with_outputs(verdict)
        self.verdict, self.outputs = verdict, outputs
        now = self._house.clock.now()
        never = [row for row in self._rows if not row.phase.terminal]  # nothing runs any more
        await self._ledger.record(
            *(PutStep(step=never_started(row, now), at=now) for row in never),
            FinishRun(
                run=self.run.id,
                phase=verdict.phase,
                reason=verdict.reason,
                message=self._scrub(verdict.message),
                outputs=outputs,
                versions=self._sessions.versions,
                at=now,
            ),
            *beside,
        )
        return verdict.phase

    def _scrub(self, text: str) -> str:
        return self._scrubber.scrub(text.encode("utf-8", "replace")).decode("utf-8", "replace")

    def _with_outputs(self, verdict: Verdict) -> tuple[Verdict, dict[str, object]]:
        if verdict.phase is not Phase.SUCCEEDED or not self._workflow.outputs:
            return verdict, {}
        try:
            return verdict, dict(render(self._workflow.outputs, self._materials.scope))
        except StalledError as error:
            return Verdict(Phase.ERROR, error.reason, str(error)), {}

    async def _clean_up(self) -> None:
        await self._sessions.close()
        await asyncio.to_thread(clear, self._folder)

    def _note_ended(self) -> None:
        """Let what runs see what had ended before."""
        for step in self._workflow.every_step:
            if self._rows.ended(step.name):
                self._materials.note(step, self._rows.of(step.name))

    # Recovery.

    async def settle_lost(
        self, rows: Iterable[StepRun], verdict: Verdict, answer: Run | None
    ) -> Phase:
        """End a run whose instance is gone: hooks and finally that had not started run once.

        `rows` are the run's steps with everything that ran settled already; `answer` is the run
        that answers its trigger in its place.
        """
        beside = () if answer is None else (CreateRun(run=answer),)
        self._ended = verdict
        self._again = True
        self._materials.begin()
        self._rows.restore(rows)
        self._note_ended()
        never = self._new_walk(self._workflow.steps)
        never.interrupt(Phase.SKIPPED, rules.RUN_ENDED)
        await never.run()
        try:
            if any(not row.phase.terminal for row in self._rows):
                await self._prepare()
            # What was lost counts as a failure to the hooks: `onFailure` runs.
            await self.after(verdict)
        except RondelError as error:
            verdict = replace(verdict, message=f"{verdict.message}; its hooks did not run: {error}")
        finally:
            await self._finish(verdict, *beside)
            await self._clean_up()
        return verdict.phase


def never_started(row: StepRun, at: datetime) -> StepRun:
    return replace(row, phase=Phase.SKIPPED, reason=rules.RUN_ENDED, finished_at=at)
