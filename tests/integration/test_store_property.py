"""Any order of changes leaves the store as a few lines of plain Python say."""

import asyncio
import re
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.model.changes import (
    ClaimRun,
    CreateRun,
    FinishAttempt,
    FinishRun,
    RequeueRun,
    SealLog,
    StartAttempt,
    StartRun,
)
from controller.model.run import Phase
from controller.store import Store
from tests.store_lives import NOON, FixedClock, a_run, a_step, an_attempt

RUNS = ["w-1", "w-2", "w-3"]
ENDS = [Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED]


@dataclass
class Model:
    """Runs and attempts as dictionaries, and the events as a list."""

    me: str = "me"
    runs: dict[str, Any] = field(default_factory=dict)  # id -> [phase, instance]
    identities: set[str] = field(default_factory=set)
    attempts: dict[tuple[str, int], Any] = field(
        default_factory=dict
    )  # (run, number) -> [phase, log]
    events: list[tuple[str, str]] = field(default_factory=list)

    def apply(self, change) -> bool:
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(change).__name__).lower()
        return getattr(self, name)(change) is not None

    def told(self, run, reason):
        self.events.append((run, reason))
        return True

    def create_run(self, change):
        run = change.run
        if run.id in self.runs or run.identity in self.identities:
            return None
        self.runs[run.id] = [Phase.PENDING, None]
        self.identities.add(run.identity)
        return self.told(run.id, "RunCreated")

    def claim_run(self, change):
        run = self.runs.get(change.run)
        if run != [Phase.PENDING, None]:
            return None
        run[1] = change.instance
        return self.told(change.run, "RunClaimed")

    def start_run(self, change):
        run = self.runs.get(change.run)
        if run != [Phase.PENDING, self.me]:
            return None
        run[0] = Phase.RUNNING
        return self.told(change.run, "RunStarted")

    def requeue_run(self, change):
        run = self.runs.get(change.run)
        if run is None or run[0].terminal or run[1] is None:
            return None
        run[:] = [Phase.PENDING, None]
        return self.told(change.run, "RunRequeued")

    def finish_run(self, change):
        run = self.runs.get(change.run)
        if run is None or run[0].terminal:
            return None
        run[0] = change.phase
        return self.told(change.run, f"Run{change.phase}")

    def start_attempt(self, change):
        attempt = change.attempt
        key = (attempt.run, attempt.number)
        running = self.runs.get(attempt.run, [None])[0] is Phase.RUNNING
        if key in self.attempts or not running:
            return None
        self.attempts[key] = [Phase.RUNNING, None]
        return self.told(attempt.run, "StepStarted")

    def finish_attempt(self, change):
        attempt = self.attempts.get((change.attempt.run, change.attempt.number))
        if attempt is None or attempt[0].terminal:
            return None
        attempt[0] = change.attempt.phase
        if attempt[0] is not Phase.SUCCEEDED:
            self.told(change.attempt.run, "AttemptFinished")
        return True

    def seal_log(self, change):
        attempt = self.attempts.get((change.run, change.number))
        if attempt is None or attempt[1] == change.log:
            return None
        attempt[1] = change.log
        return True


def changes(me):
    run = st.sampled_from(RUNS)
    number = st.integers(1, 2)
    attempt = st.builds(lambda run, number: an_attempt(run, "s0", number), run, number)
    done = st.builds(
        lambda attempt, phase: replace(attempt, phase=phase, finished_at=NOON),
        attempt,
        st.sampled_from(ENDS),
    )
    return st.one_of(
        st.builds(
            lambda name, identity: CreateRun(run=a_run(name, identity=identity)),
            run,
            st.sampled_from(["slot:1", "slot:2", "slot:3"]),
        ),
        st.builds(ClaimRun, run=run, instance=st.sampled_from([me, me, "other"]), at=st.just(NOON)),
        st.builds(
            lambda run: StartRun(run=run, at=NOON, executor="local", steps=(a_step(run, "s0"),)),
            run,
        ),
        st.builds(RequeueRun, run=run, reason=st.just("Again"), at=st.just(NOON)),
        st.builds(FinishRun, run=run, phase=st.sampled_from(ENDS), at=st.just(NOON)),
        st.builds(lambda attempt: StartAttempt(attempt=attempt), attempt),
        st.builds(lambda attempt: FinishAttempt(attempt=attempt), done),
        st.builds(
            lambda run, number, log: SealLog(
                run=run, step="s0", index=0, number=number, log=log, size=1
            ),
            run,
            number,
            st.sampled_from(["sha256:a", "sha256:b"]),
        ),
    )


async def check(calls):
    with tempfile.TemporaryDirectory() as folder:
        store = await Store.open(Path(folder), clock=FixedClock(), synchronous="OFF")
        model = Model(me=store.instance)
        plain = [[on_behalf_of(store.instance, change) for change in call] for call in calls]
        expected = [tuple(model.apply(change) for change in call) for call in plain]
        found = await asyncio.gather(*(store.record(*call) for call in plain))
        assert found == expected
        await compare(store, model)
        await store.close()


def on_behalf_of(instance, change):
    return (
        replace(change, instance=instance)
        if isinstance(change, ClaimRun) and change.instance == "me"
        else change
    )


async def compare(store, model):
    runs = await store.read(lambda reader: reader.runs())
    assert {run.id: [run.phase, run.instance] for run in runs} == model.runs
    for run in runs:
        attempts = await store.read(lambda reader, run=run: reader.attempts(run.id))
        found = {(a.run, a.number): [a.phase, a.log] for a in attempts}
        assert found == {key: a for key, a in model.attempts.items() if key[0] == run.id}
    events = await store.read(lambda reader: reader.events())
    assert [(event.run, event.reason) for event in events] == model.events


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(changes("me"), min_size=1, max_size=4), max_size=25))
def test_the_store_does_what_the_model_does(calls):
    asyncio.run(check(calls))
