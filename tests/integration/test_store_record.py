"""Changes as they are applied, each with its event."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from controller.model.changes import (
    AnswerSchedule,
    ClaimRun,
    CreateRun,
    DropSource,
    FinishAttempt,
    FinishRun,
    ForgetSchedule,
    PutSource,
    PutStep,
    PutSuspension,
    PutWorkflow,
    RecordEvent,
    RequeueRun,
    SealLog,
    StartAttempt,
    StartRun,
)
from controller.model.condition import SourceStatus, Suspension
from controller.model.run import Event, Phase, Section, Trigger
from controller.store import Store
from tests.store_lives import (
    NOON,
    SPEC,
    FixedClock,
    a_condition,
    a_run,
    a_step,
    a_workflow,
    an_attempt,
    begun,
    life,
)

LATER = NOON + timedelta(minutes=1)


@pytest.fixture
async def store(tmp_path):
    store = await Store.open(tmp_path / "state", clock=FixedClock())
    yield store
    await store.close()


async def reasons(store, run="w-1"):
    return [event.reason for event in await store.read(lambda reader: reader.events(run=run))]


async def the_run(store, name="w-1"):
    return await store.read(lambda reader: reader.run(name))


async def test_a_run_comes_back_as_it_was_created(store):
    run = a_run(
        trigger=Trigger.SCHEDULE,
        schedule="nightly",
        scheduled_time=NOON,
        not_before=LATER,
        params={"region": "eu", "list": [1, None, {"ä": "\ud800"}]},
        inputs={"src": "sha256:0"},
        versions={"rondel": "0.1"},
        outputs={"rows": [1.5]},
        priority=-3,
        fresh=True,
        rerun_of="w-0",
        message="Grüße",
        executor="local",
        instance="exec-1",
        started_at=NOON,
        finished_at=LATER,
    )
    assert await store.record(CreateRun(run=run)) == (True,)
    assert await the_run(store) == run


async def test_a_run_in_a_list_has_no_spec(store):
    await store.record(CreateRun(run=a_run()))
    (listed,) = await store.read(lambda reader: reader.runs())
    assert listed == replace(a_run(), spec="")


async def test_equal_specs_are_kept_once(store):
    await store.record(*(CreateRun(run=a_run(f"w-{i}")) for i in range(3)))
    found = await store.write(lambda tx: tx._connection.execute("SELECT body FROM spec").fetchall())
    assert found == [(SPEC,)]


async def test_a_run_that_exists_is_not_created_again(store):
    await store.record(CreateRun(run=a_run()))
    assert await store.record(CreateRun(run=a_run(message="other"))) == (False,)
    assert await reasons(store) == ["RunCreated"]
    assert (await the_run(store)).message == ""


async def test_one_identity_starts_one_run(store):
    await store.record(CreateRun(run=a_run("w-1", identity="slot:a:1")))
    assert await store.record(CreateRun(run=a_run("w-2", identity="slot:a:1"))) == (False,)
    assert await store.record(CreateRun(run=a_run("v-2", workflow="v", identity="slot:a:1"))) == (
        True,
    )


async def test_a_skipped_run_is_told_as_skipped(store):
    run = a_run(phase=Phase.SKIPPED, reason="ConcurrencyForbidden")
    await store.record(CreateRun(run=run))
    (event,) = await store.read(lambda reader: reader.events(run="w-1"))
    assert (event.reason, event.data["reason"]) == ("RunSkipped", "ConcurrencyForbidden")


async def test_a_run_is_claimed_once(store):
    await store.record(CreateRun(run=a_run()))
    claim = ClaimRun(run="w-1", instance=store.instance, at=NOON)
    assert await store.record(claim, claim) == (True, False)
    assert await store.record(replace(claim, instance="other")) == (False,)
    assert (await the_run(store)).instance == store.instance
    assert await reasons(store) == ["RunCreated", "RunClaimed"]


async def test_a_run_of_another_instance_is_not_started(store):
    create, claim, start = begun("serve-other")
    assert await store.record(create, claim, start) == (True, True, False)
    assert await store.read(lambda reader: reader.steps("w-1")) == []


async def test_an_unclaimed_run_is_not_started(store):
    create, _, start = begun(store.instance)
    assert await store.record(create, start) == (True, False)


async def test_a_started_run_has_its_steps_and_what_it_is_pinned_to(store):
    create, claim, start = begun(store.instance, steps=2)
    start = replace(start, revision="main@sha1:1", inputs={"src": "d"}, versions={"cli": "1"})
    assert await store.record(create, claim, start) == (True, True, True)
    run = await the_run(store)
    assert (run.phase, run.started_at, run.executor) == (Phase.RUNNING, NOON, "local")
    assert (run.revision, run.inputs, run.versions) == ("main@sha1:1", {"src": "d"}, {"cli": "1"})
    steps = await store.read(lambda reader: reader.steps("w-1"))
    assert [step.name for step in steps] == ["s0", "s1"]


async def test_failures_in_a_row_are_counted_and_a_resumption_counts_anew(store):
    await store.record(PutWorkflow(status=a_workflow()))
    phases = [Phase.FAILED, Phase.CANCELLED, Phase.ERROR, Phase.SKIPPED, Phase.INTERRUPTED]
    counted = []

    async def end(number, phase):
        run = a_run(id=f"w-{number}", identity=f"x:{number}")
        await store.record(CreateRun(run=run), FinishRun(run=run.id, phase=phase, at=NOON))
        counted.append((await store.read(lambda reader: reader.workflow("main", "w"))).failures)

    for number, phase in enumerate(phases):
        await end(number, phase)
    assert counted == [1, 1, 2, 2, 3]
    held = Suspension(by="ada", reason="too hot", at=NOON, until=LATER)
    change = PutSuspension(source="main", workflow="w", suspension=held)
    assert [await store.record(change) for _ in range(2)] == [(True,), (False,)]
    await store.record(PutWorkflow(status=a_workflow(generation=2)))
    kept = await store.read(lambda reader: reader.workflow("main", "w"))
    assert (kept.suspension, kept.failures) == (held, 3)
    await store.record(replace(change, suspension=None))
    kept = await store.read(lambda reader: reader.workflow("main", "w"))
    assert (kept.suspension, kept.failures) == (None, 0)
    await end(9, Phase.FAILED)
    await end(10, Phase.SUCCEEDED)
    assert counted[-2:] == [1, 0]


async def test_a_schedule_remembers_what_its_last_success_was_made_of(store):
    await store.record(
        PutWorkflow(status=a_workflow()),
        AnswerSchedule(source="main", workflow="w", schedule="nightly", through=NOON),
    )
    run = a_run(schedule="nightly", params={"day": "2027-03-01"}, spec_digest="d")
    await store.record(CreateRun(run=run), ClaimRun(run=run.id, instance=store.instance, at=NOON))
    pinned = {"src": "sha256:7"}
    await store.record(
        StartRun(run=run.id, at=NOON, executor="local", inputs=pinned),
        FinishRun(run=run.id, phase=Phase.SUCCEEDED, at=NOON),
        AnswerSchedule(source="main", workflow="w", schedule="nightly", through=LATER),
    )
    kept = await store.read(lambda reader: reader.workflow("main", "w"))
    assert kept.last_keys == {"nightly": replace(run, inputs=pinned).key}
    assert kept.answered == {"nightly": LATER}


async def test_a_group_has_so_many_places_and_no_more_whoever_claims(store, tmp_path):
    other = await Store.open(tmp_path / "state", clock=FixedClock(), kind="exec")
    runs = [a_run(id=f"w-{number}", identity=f"x:{number}") for number in range(12)]
    await store.record(*(CreateRun(run=run) for run in runs))

    def claim(who, run):
        change = ClaimRun(run=run.id, instance=who.instance, at=NOON, group="s/g", limit=3)
        return who.record(change)

    claims = [claim(store if number % 2 else other, run) for number, run in enumerate(runs)]
    answers = await asyncio.gather(*claims)
    assert [done for (done,) in answers].count(True) == 3
    held = [run for run, (done,) in zip(runs, answers, strict=True) if done]
    assert (await the_run(store, held[0].id)).group == "s/g"
    free = [run for run, (done,) in zip(runs, answers, strict=True) if not done]
    assert await claim(store, free[0]) == (False,)
    await store.record(FinishRun(run=held[0].id, phase=Phase.SUCCEEDED, at=NOON))
    await store.record(RequeueRun(run=held[1].id, reason="SourceChanged", at=NOON))
    assert (await the_run(store, held[1].id)).group is None
    assert [await claim(store, run) for run in free[:3]] == [(True,), (True,), (False,)]
    await other.close()


async def test_a_requeued_run_can_be_claimed_again(store):
    await store.record(*begun(store.instance))
    requeue = RequeueRun(run="w-1", reason="SourceChanged", at=LATER, not_before=LATER)
    assert await store.record(requeue, requeue) == (True, False)
    run = await the_run(store)
    assert (run.phase, run.reason, run.not_before) == (Phase.PENDING, "SourceChanged", LATER)
    assert (run.instance, run.started_at) == (None, None)
    assert await store.record(ClaimRun(run="w-1", instance=store.instance, at=LATER)) == (True,)


async def test_a_requeued_run_forgets_the_rows_of_steps_that_were_never_tried(store):
    create, claim, start = begun(store.instance, steps=2)
    tried = replace(start.steps[0], attempts=1)
    await store.record(create, claim, replace(start, steps=(tried, start.steps[1])))
    await store.record(RequeueRun(run="w-1", reason="ControllerLost", at=LATER))
    steps = await store.read(lambda reader: reader.steps("w-1"))
    assert [step.name for step in steps] == ["s0"]


async def test_a_finished_run_is_not_requeued(store):
    await store.record(*begun(store.instance))
    await store.record(FinishRun(run="w-1", phase=Phase.FAILED, at=LATER))
    assert await store.record(RequeueRun(run="w-1", reason="x", at=LATER)) == (False,)


async def test_a_run_finishes_once(store):
    await store.record(*begun(store.instance))
    end = FinishRun(
        run="w-1", phase=Phase.FAILED, reason="StepFailed", message="no", outputs={"a": 1}, at=LATER
    )
    assert await store.record(end, replace(end, phase=Phase.SUCCEEDED)) == (True, False)
    run = await the_run(store)
    assert (run.phase, run.reason, run.message, run.outputs, run.finished_at) == (
        Phase.FAILED,
        "StepFailed",
        "no",
        {"a": 1},
        LATER,
    )
    assert (await reasons(store))[-1] == "RunFailed"


async def test_the_workflow_remembers_its_last_runs(store):
    await store.record(PutWorkflow(status=a_workflow()))
    await store.record(*begun(store.instance, "w-1"))
    await store.record(FinishRun(run="w-1", phase=Phase.SUCCEEDED, at=NOON))
    await store.record(*begun(store.instance, "w-2"))
    await store.record(FinishRun(run="w-2", phase=Phase.FAILED, at=LATER))
    status = await store.read(lambda reader: reader.workflow("main", "w"))
    assert (status.last_run, status.last_phase) == ("w-2", Phase.FAILED)
    assert (status.last_success_at, status.last_failure_at) == (NOON, LATER)


async def test_a_skipped_run_is_not_the_last_run(store):
    await store.record(PutWorkflow(status=a_workflow()), CreateRun(run=a_run()))
    await store.record(FinishRun(run="w-1", phase=Phase.SKIPPED, reason="Superseded", at=NOON))
    status = await store.read(lambda reader: reader.workflow("main", "w"))
    assert status.last_run is None


async def test_an_attempt_starts_once_and_its_step_runs(store):
    await store.record(*begun(store.instance))
    attempt = an_attempt(step="s0")
    assert await store.record(StartAttempt(attempt=attempt), StartAttempt(attempt=attempt)) == (
        True,
        False,
    )
    (step,) = await store.read(lambda reader: reader.steps("w-1"))
    assert (step.phase, step.attempts, step.started_at) == (Phase.RUNNING, 1, NOON)
    assert await store.read(lambda reader: reader.attempts("w-1")) == [attempt]
    assert (await reasons(store))[-1] == "StepStarted"


async def test_no_attempt_starts_once_the_run_is_over(store):
    await store.record(*begun(store.instance))
    await store.record(FinishRun(run="w-1", phase=Phase.CANCELLED, at=NOON))
    assert await store.record(StartAttempt(attempt=an_attempt(step="s0"))) == (False,)


async def test_a_step_keeps_its_first_start_through_its_attempts(store):
    await store.record(*begun(store.instance))
    first = an_attempt(step="s0")
    failed = replace(first, phase=Phase.FAILED, exit_code=75, error="busy", finished_at=LATER)
    second = replace(first, number=2, started_at=LATER)
    changes = (StartAttempt(attempt=first), FinishAttempt(attempt=failed))
    assert await store.record(*changes, StartAttempt(attempt=second)) == (True, True, True)
    (step,) = await store.read(lambda reader: reader.steps("w-1"))
    assert (step.attempts, step.started_at, step.exit_code) == (2, NOON, None)
    assert await store.read(lambda reader: reader.attempts("w-1", "s0")) == [failed, second]
    assert (await reasons(store))[-3:] == ["StepStarted", "AttemptFinished", "StepStarted"]


async def test_an_attempt_finishes_once_and_keeps_its_log(store):
    await store.record(*begun(store.instance))
    attempt = an_attempt(step="s0")
    await store.record(StartAttempt(attempt=attempt))
    seal = SealLog(run="w-1", step="s0", index=0, number=1, log="sha256:a", size=9, truncated=True)
    done = replace(attempt, phase=Phase.SUCCEEDED, exit_code=0, finished_at=LATER)
    assert await store.record(seal, seal) == (True, False)
    assert await store.record(FinishAttempt(attempt=done), FinishAttempt(attempt=done)) == (
        True,
        False,
    )
    (kept,) = await store.read(lambda reader: reader.attempts("w-1"))
    assert kept == replace(done, log="sha256:a", log_truncated=True)


async def test_a_step_comes_back_as_it_was_put(store):
    await store.record(*begun(store.instance, steps=0))
    step = a_step(
        name="fan",
        section=Section.FINALLY,
        index=2,
        position=7,
        matrix={"format": "pdf"},
        phase=Phase.FAILED,
        reason="Timeout",
        exit_code=137,
        attempts=3,
        cached=True,
        outputs={"n": 1},
        artifacts={"rows": "sha256:b"},
        error="killed",
        started_at=NOON,
        finished_at=LATER,
    )
    put = PutStep(step=step, at=LATER)
    assert await store.record(put, put) == (True, False)
    assert await store.read(lambda reader: reader.steps("w-1")) == [step]
    assert (await reasons(store)).count("StepFinished") == 1


async def test_a_step_that_goes_on_writes_no_event(store):
    await store.record(*begun(store.instance))
    before = await reasons(store)
    await store.record(PutStep(step=a_step(name="s0", phase=Phase.RUNNING), at=NOON))
    assert await reasons(store) == before


async def test_a_workflow_is_replaced_but_for_what_runs_and_slots_left(store):
    event = Event(at=NOON, reason="WorkflowLoaded", source="main", workflow="w")
    await store.record(PutWorkflow(status=a_workflow(), event=event))
    await store.record(*begun(store.instance))
    await store.record(FinishRun(run="w-1", phase=Phase.SUCCEEDED, at=NOON))
    await store.record(
        AnswerSchedule(source="main", workflow="w", schedule="nightly", through=NOON)
    )
    newer = a_workflow(
        generation=2,
        suspended=True,
        watched_since=NOON,
        inputs={"src": "sha256:1"},
        conditions=(a_condition(), a_condition("Stalled", message="ä")),
    )
    assert await store.record(PutWorkflow(status=newer)) == (True,)
    kept = await store.read(lambda reader: reader.workflow("main", "w"))
    assert kept.last_keys == {}, "it was no run of the schedule"
    expected = replace(
        newer,
        last_run="w-1",
        last_phase=Phase.SUCCEEDED,
        last_success_at=NOON,
        answered={"nightly": NOON},
    )
    assert kept == expected


async def test_an_equal_status_writes_neither_row_nor_event(store):
    event = Event(at=NOON, reason="WorkflowLoaded", source="main", workflow="w")
    put = PutWorkflow(status=a_workflow(), event=event)
    assert await store.record(put, put) == (True, False)
    assert len(await store.read(lambda reader: reader.events(workflow="w"))) == 1


async def test_a_schedule_is_answered_forwards_only_and_forgotten(store):
    await store.record(PutWorkflow(status=a_workflow()))
    answer = AnswerSchedule(source="main", workflow="w", schedule="nightly", through=LATER)
    assert await store.record(answer, answer, replace(answer, through=NOON)) == (True, False, False)
    status = await store.read(lambda reader: reader.workflow("main", "w"))
    assert status.answered == {"nightly": LATER}
    forget = ForgetSchedule(source="main", workflow="w", schedule="nightly")
    assert await store.record(forget, forget) == (True, False)


async def test_a_dropped_source_retires_its_workflows_and_keeps_their_history(store):
    source = SourceStatus(
        name="main",
        kind="Git",
        location="https://git.example.com/ops.git",
        conditions=(a_condition(),),
        last_success_at=NOON,
        workflows=2,
    )
    assert await store.record(PutSource(status=source)) == (True,)
    assert await store.read(lambda reader: reader.sources()) == [source]
    await store.record(PutWorkflow(status=a_workflow("a")), PutWorkflow(status=a_workflow("b")))
    drop = DropSource(name="main", at=LATER)
    assert await store.record(drop, drop) == (True, False)
    assert await store.read(lambda reader: reader.workflows()) == []
    retired = await store.read(lambda reader: reader.workflows(retired=True))
    assert [status.name for status in retired] == ["a", "b"]
    events = await store.read(lambda reader: reader.events(source="main"))
    assert [(event.reason, event.workflow) for event in events] == [
        ("WorkflowRetired", "a"),
        ("WorkflowRetired", "b"),
        ("SourceDropped", ""),
    ]


async def test_an_event_is_recorded_as_it_is_and_numbered(store):
    event = Event(at=NOON, reason="Drained", message="bye\0", data={"runs": 0})
    await store.record(RecordEvent(event=event), RecordEvent(event=event))
    first, second = await store.read(lambda reader: reader.events())
    assert first == replace(event, id=first.id, message="bye\ufffd")
    assert second.id > first.id
    assert await store.read(lambda reader: reader.events(after=first.id)) == [second]


async def test_a_call_is_atomic_and_a_failing_one_spoils_no_other(store):
    naive = a_run("w-bad", created_at=NOON.replace(tzinfo=None))
    results = await asyncio.gather(
        *(store.record(CreateRun(run=a_run(f"w-{i}"))) for i in range(20)),
        store.record(CreateRun(run=a_run("w-good")), CreateRun(run=naive)),
        *(store.record(CreateRun(run=a_run(f"w-{i}"))) for i in range(20, 40)),
        return_exceptions=True,
    )
    assert isinstance(results.pop(20), ValueError)
    assert set(results) == {(True,)}
    assert len(await store.read(lambda reader: reader.runs())) == 40
    assert len(await store.read(lambda reader: reader.events())) == 40


async def test_a_cancelled_caller_leaves_the_writer_at_work(store):
    task = asyncio.create_task(store.record(CreateRun(run=a_run())))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await store.record(CreateRun(run=a_run("w-2"))) == (True,)


async def test_whole_lives_at_once_are_all_recorded(store):
    async def live(name):
        for calls in life(store.instance, name):
            assert all(await store.record(*calls))

    await asyncio.gather(*(live(f"w-{i}") for i in range(30)))
    runs = await store.read(lambda reader: reader.runs(phases=[Phase.SUCCEEDED]))
    assert len(runs) == 30
    assert await reasons(store, "w-7") == [
        "RunCreated",
        "RunClaimed",
        "RunStarted",
        *["StepStarted", "StepFinished"] * 3,
        "RunSucceeded",
    ]
