"""Runs that are put back and claimed again while their last turn is still tidying up."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

from controller.clock import SystemClock
from controller.dispatcher import Dispatcher
from controller.model.changes import CreateRun, FinishRun, RequeueRun
from controller.model.run import Phase, Run, Trigger
from controller.model.workflow import ConcurrencyPolicy
from controller.observations import Observations
from controller.recorder import Recorder
from controller.store import Store

SPEC = '{"metadata":{"name":"w"},"spec":{"steps":[{"name":"a","script":"true"}]}}'

RUN = Run(
    id="w-1",
    source="s",
    workflow="w",
    trigger=Trigger.CHANGE,
    identity="change:1",
    spec=SPEC,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


class Turns:
    """Puts a run back at its first turn and takes its time to tidy up; ends it at the second."""

    def __init__(self, recorder):
        self._recorder = recorder
        self.told = []
        self.tidy = asyncio.Event()

    async def execute(self, run, *_):
        now = datetime.now(UTC)
        if not self.told:
            self.told.append("first")
            await self._recorder.record(RequeueRun(run=run.id, reason="SourceChanged", at=now))
            await self.tidy.wait()
            self.told.append("tidied")
        else:
            self.told.append("second")
            await self._recorder.record(FinishRun(run=run.id, phase=Phase.SUCCEEDED, at=now))


def dispatcher_of(store, recorder, observations, engine, *, expected=lambda _: False):
    return Dispatcher(
        store=store,
        recorder=recorder,
        observations=observations,
        engine=engine,
        clock=SystemClock(),
        turn=asyncio.Lock(),
        max_runs=10,
        policy=lambda _: ConcurrencyPolicy.FORBID,
        group_limit=lambda _: None,
        expected=expected,
        ended=lambda _: None,
        wake_at=lambda *_: None,
    )


async def test_nothing_is_claimed_of_a_source_whose_limits_are_not_known_yet(tmp_path):
    store = await Store.open(tmp_path, clock=SystemClock())
    observations = Observations((), ())
    recorder = Recorder(store, observations)
    expected = {"late"}
    engine = Turns(recorder)
    dispatcher = dispatcher_of(
        store, recorder, observations, engine, expected=expected.__contains__
    )
    late, here = (replace(RUN, id=f"w-{name}", source=name) for name in ("late", "here"))
    await recorder.record(CreateRun(run=late), CreateRun(run=here))
    await dispatcher.claim()
    assert {run.id for run in observations.unfinished() if run.instance} == {here.id}
    expected.clear()
    await dispatcher.claim()
    assert {run.id for run in observations.unfinished() if run.instance} >= {late.id}
    engine.tidy.set()
    await dispatcher.wind_down(10)
    await store.close()


async def test_a_run_that_was_put_back_begins_anew_when_its_last_turn_has_tidied_up(tmp_path):
    store = await Store.open(tmp_path, clock=SystemClock())
    observations = Observations((), ())
    recorder = Recorder(store, observations)
    engine = Turns(recorder)
    dispatcher = dispatcher_of(store, recorder, observations, engine)
    await recorder.record(CreateRun(run=RUN))
    await dispatcher.claim()
    while observations.unfinished()[0].reason != "SourceChanged":
        await asyncio.sleep(0.01)
    await dispatcher.claim()
    await asyncio.sleep(0.1)
    assert engine.told == ["first"], "its folder is still the first turn's"
    assert dispatcher.running == 1
    engine.tidy.set()
    await dispatcher.wind_down(10)
    assert engine.told == ["first", "tidied", "second"]
    assert dispatcher.running == 0
    await store.close()


class Patient:
    """Ends a run after a moment, as a step does that takes one."""

    def __init__(self, recorder):
        self._recorder = recorder
        self.ended = []

    async def execute(self, run, *_):
        await asyncio.sleep(0.2)
        now = datetime.now(UTC)
        await self._recorder.record(FinishRun(run=run.id, phase=Phase.SUCCEEDED, at=now))
        self.ended.append(run.id)


async def test_a_run_that_is_being_claimed_when_we_stop_has_its_time_to_end(tmp_path):
    store = await Store.open(tmp_path, clock=SystemClock())
    observations = Observations((), ())
    recorder = Recorder(store, observations)
    engine = Patient(recorder)
    dispatcher = dispatcher_of(store, recorder, observations, engine)
    await recorder.record(CreateRun(run=RUN))
    claiming = asyncio.create_task(dispatcher.claim())
    await asyncio.sleep(0)  # its claim is on the way to the store
    assert dispatcher.running == 0
    await dispatcher.wind_down(10)
    assert engine.ended == [RUN.id]
    await claiming
    await store.close()
