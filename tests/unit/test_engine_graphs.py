"""Random graphs through the whole engine, with an executor in memory."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.clock import SystemClock
from controller.execute.engine import RunEngine
from controller.execute.ports import Outcome, Verdict
from controller.model.changes import FinishAttempt, FinishRun, PutStep, StartAttempt
from controller.model.run import Phase, Run, Trigger
from controller.model.settings import InfrastructureRetry
from controller.model.workflow import Step, Workflow
from tests.engine_lab import AT_ONCE, KnownSecrets


class Book:
    """A ledger in memory."""

    def __init__(self):
        self.changes = []

    async def record(self, *changes):
        await asyncio.sleep(0)
        self.changes += changes
        return (True,) * len(changes)

    def rows(self):
        return {c.step.name: c.step for c in self.changes if isinstance(c, PutStep)}


class Imagined:
    """An executor and session in one: each step ends as it was told to."""

    name = "local"
    versions: Mapping[str, str] = {}

    def __init__(self, endings):
        self.endings, self.running, self.most, self.order = endings, 0, 0, []

    def refusal(self, _workflow):
        return None

    async def start(self): ...

    async def stop(self): ...

    async def close(self): ...

    async def open(self, _run, _workflow):
        return self

    def ending(self, request):
        return self.endings[request.step]

    async def attempt(self, request, _output):
        self.order.append(request.step)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            for _ in range(hash(request.step) % 5):
                await asyncio.sleep(0)
        finally:
            self.running -= 1
        ending = self.ending(request)
        if ending == "error":
            return Outcome(verdict=Verdict.STALLED, reason="Imagined")
        return Outcome(exit_code=0 if ending == "ok" else 1)


class Logs:
    """Takes the logs of attempts that went wrong; nothing else is kept here."""

    async def put_path(self, path):
        return f"sha256:{path.name}"


def engine(book, executor, tmp_path, max_steps):
    nothing: Any = None
    logs: Any = Logs()
    return RunEngine(
        ledger=book,
        blobs=logs,
        inputs=nothing,
        secrets=KnownSecrets({}),
        executors={"local": executor},
        clock=SystemClock(),
        state_dir=tmp_path,
        max_steps=max_steps,
        log_max_size=1 << 16,
        infrastructure_retry=InfrastructureRetry(limit=0, backoff=AT_ONCE),
    )


RUN = Run(
    id="w-1",
    source="s",
    workflow="w",
    trigger=Trigger.MANUAL,
    identity="manual:1",
    created_at=SystemClock().now(),
)


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 9))
    steps, endings = [], {}
    for number in range(count):
        before = [f"s{other}" for other in range(number)]
        needs = draw(st.lists(st.sampled_from(before), unique=True, max_size=3)) if before else []
        endings[f"s{number}"] = draw(st.sampled_from(["ok", "ok", "ok", "failed", "error"]))
        step = Step(name=f"s{number}", script="x", needs=tuple(needs))
        steps.append(replace(step, continue_on_error=draw(st.booleans())))
    return draw(st.permutations(steps)), endings


def expected(steps, endings):
    by_name, phases = {step.name: step for step in steps}, {}

    def phase(name):
        if name not in phases:
            step = by_name[name]
            held = any(
                phase(need) is Phase.SKIPPED
                or (phase(need) is not Phase.SUCCEEDED and not by_name[need].continue_on_error)
                for need in step.needs
            )
            own = {"ok": Phase.SUCCEEDED, "failed": Phase.FAILED, "error": Phase.ERROR}
            phases[name] = Phase.SKIPPED if held else own[endings[name]]
        return phases[name]

    return {name: phase(name) for name in by_name}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=graphs(), limit=st.one_of(st.none(), st.integers(1, 3)), slots=st.integers(1, 4))
def test_every_step_runs_after_its_needs_within_the_limits(graph, limit, slots, tmp_path):
    steps, endings = graph
    book, executor = Book(), Imagined(endings)
    wanted = Workflow(name="w", steps=tuple(steps), max_parallel=limit)
    phase = asyncio.run(engine(book, executor, tmp_path, slots).execute(RUN, wanted))

    assert executor.most <= min(limit or 99, slots)
    assert {name: row.phase for name, row in book.rows().items()} == expected(steps, endings)
    ended = set()
    for change in book.changes:
        if isinstance(change, PutStep):
            ended.add(change.step.name)
        elif isinstance(change, StartAttempt):
            step = wanted.step(change.attempt.step)
            assert set(step.needs) <= ended
    counted = {
        row.phase for name, row in book.rows().items() if not wanted.step(name).continue_on_error
    }
    worst = next((one for one in (Phase.ERROR, Phase.FAILED) if one in counted), Phase.SUCCEEDED)
    assert phase is worst
    starts = [c for c in book.changes if isinstance(c, StartAttempt)]
    ends = [c for c in book.changes if isinstance(c, FinishAttempt)]
    assert len(starts) == len(ends) == len(executor.order)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=graphs(), moment=st.integers(0, 40), now=st.booleans(), slots=st.integers(1, 4))
def test_a_cancel_at_any_moment_ends_everything(graph, moment, now, slots, tmp_path):
    steps, endings = graph
    book, executor = Book(), Imagined(endings)
    wanted = Workflow(name="w", steps=tuple(steps), finally_=(Step(name="z", script="x"),))
    endings["z"] = "ok"

    async def main():
        one = engine(book, executor, tmp_path, slots)
        task = asyncio.create_task(one.execute(RUN, wanted))
        for _ in range(moment):
            await asyncio.sleep(0)
        cancelled = one.cancel(RUN.id, now=now)
        async with asyncio.timeout(5):
            phase = await task
        assert one._house.slots._free == slots
        return cancelled, phase

    cancelled, phase = asyncio.run(main())
    if cancelled:
        finish = [c for c in book.changes if isinstance(c, FinishRun)]
        assert len(finish) == 1
        assert phase is finish[0].phase
        assert all(row.phase.terminal for row in book.rows().values())
        assert set(book.rows()) == {step.name for step in steps} | {"z"}
        starts = [c.attempt.step for c in book.changes if isinstance(c, StartAttempt)]
        ends = [c.attempt.step for c in book.changes if isinstance(c, FinishAttempt)]
        assert sorted(starts) == sorted(ends)
    assert executor.running == 0
