"""History keeps what it should, blobs go when nobody names them."""

import os
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from controller.model.cache import CacheEntry
from controller.model.changes import (
    CreateRun,
    FinishAttempt,
    PutCacheEntry,
    PutStep,
    RecordEvent,
    SealLog,
    StartAttempt,
)
from controller.model.run import Event, Phase
from controller.model.workflow import History
from controller.store import Keep, Store
from controller.store.retention import drop_runs
from controller.store.tables import metadata
from tests.store_lives import NOON, FixedClock, a_run, a_step, an_attempt, begun


@pytest.fixture
def clock():
    return FixedClock(NOON + timedelta(days=10))


@pytest.fixture
async def store(tmp_path, clock):
    store = await Store.open(tmp_path, clock=clock)
    yield store
    await store.close()


def ended(name, phase, minutes=0, **given):
    at = NOON + timedelta(minutes=minutes)
    return CreateRun(run=a_run(name, phase=phase, created_at=at, finished_at=at, **given))


async def kept(store):
    return {run.id for run in await store.read(lambda reader: reader.runs())}


async def test_each_workflow_keeps_its_newest_runs_of_each_kind(store):
    for workflow in ("v", "w"):
        await store.record(
            *(ended(f"{workflow}-ok-{i}", Phase.SUCCEEDED, i, workflow=workflow) for i in range(4)),
            *(
                ended(f"{workflow}-no-{i}", phase, i, workflow=workflow)
                for i, phase in enumerate([Phase.FAILED, Phase.ERROR, Phase.CANCELLED])
            ),
            *(ended(f"{workflow}-skip-{i}", Phase.SKIPPED, i, workflow=workflow) for i in range(3)),
            CreateRun(run=a_run(f"{workflow}-waits", workflow=workflow)),
        )
    assert await store.housekeep(Keep(successful=2, failed=2, skipped=1)) == 10
    assert await kept(store) == {
        f"{workflow}-{name}"
        for workflow in ("v", "w")
        for name in ("ok-3", "ok-2", "no-2", "no-1", "skip-2", "waits")
    }


async def test_the_last_success_outlives_every_limit(store):
    await store.record(ended("w-ok", Phase.SUCCEEDED), ended("w-no", Phase.FAILED, 1))
    await store.housekeep(Keep(successful=0, failed=0, ttl=timedelta(days=1)))
    assert await kept(store) == {"w-ok"}


async def test_runs_that_are_steps_stay_and_go_with_their_callers(store):
    def called(name, parent, minutes):
        return ended(name, Phase.FAILED, minutes, workflow="inner", parent=parent)

    await store.record(
        *(ended(f"w-{i}", Phase.FAILED, 10 * i) for i in (1, 2)),
        *(called(f"inner-{i}-{n}", f"w-{i}", 10 * i + n) for i in (1, 2) for n in (1, 2, 3)),
        called("deep", "inner-1-1", 14),
        ended("inner-own", Phase.FAILED, 0, workflow="inner"),
    )
    await store.housekeep(Keep(failed=1))
    await store.housekeep(Keep(failed=1))  # calls inside calls go one level at a time
    assert await kept(store) == {"w-2", "inner-2-1", "inner-2-2", "inner-2-3", "inner-own"}


async def test_hundreds_of_runs_go_in_one_housekeeping(store):
    await store.record(*(ended(f"w-{i}", Phase.FAILED, i) for i in range(450)))
    assert await store.housekeep(Keep(failed=3)) == 447


async def test_with_a_run_goes_all_that_is_its_own(store):
    await store.record(*begun(store.instance), StartAttempt(attempt=an_attempt(step="s0")))
    await store.record(ended("w-2", Phase.FAILED), RecordEvent(event=Event(at=NOON, reason="Old")))
    await store.write(lambda tx: tx._connection.execute("UPDATE run SET phase = 'Failed'"))
    await store.housekeep(Keep(failed=0, ttl=timedelta(days=1)))
    for table in ("run", "step_run", "attempt", "event", "spec"):
        query = select(metadata.tables[table])
        assert await store.read(lambda reader, query=query: reader.fetch(query)) == []


async def test_an_event_s_number_is_never_given_twice(store):
    await store.record(RecordEvent(event=Event(at=NOON, reason="Old")))
    (old,) = await store.read(lambda reader: reader.events())
    await store.housekeep(Keep(ttl=timedelta(days=1)))
    assert await store.read(lambda reader: reader.events()) == []
    await store.record(RecordEvent(event=Event(at=NOON, reason="New")))
    assert (await store.read(lambda reader: reader.events()))[0].id > old.id


def age(store, clock, digests):
    long_ago = (clock.at - timedelta(days=5)).timestamp()
    for digest in digests:
        os.utime(store.blobs.path(digest), (long_ago, long_ago))


async def test_only_old_blobs_that_no_row_names_go(store, clock, tmp_path):
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "deep" / "file").write_text("inside")
    folder = await store.blobs.put_path(tmp_path / "out")
    inside = next(store.blobs.parts(folder))
    log, orphan, fresh = [await store.blobs.put(text) for text in (b"log", b"orphan", b"fresh")]
    attempt = an_attempt(step="s0")
    await store.record(*begun(store.instance), StartAttempt(attempt=attempt))
    await store.record(
        FinishAttempt(attempt=replace(attempt, phase=Phase.SUCCEEDED, finished_at=NOON)),
        SealLog(run="w-1", step="s0", index=0, number=1, log=log, size=3),
        PutStep(step=a_step(name="s0", phase=Phase.SUCCEEDED, artifacts={"out": folder}), at=NOON),
    )
    age(store, clock, [folder, inside, log, orphan])
    os.utime(store.blobs.path(fresh), (clock.at.timestamp(),) * 2)
    await store.housekeep(Keep())
    there = {
        digest
        for digest in (folder, inside, log, orphan, fresh)
        if store.blobs.path(digest).exists()
    }
    assert there == {folder, inside, log, fresh}
    rows = await store.write(
        lambda tx: tx._connection.execute(
            "SELECT digest, size, kind FROM blob ORDER BY kind"
        ).fetchall()
    )
    assert rows == [(folder, 6, "folder"), (log, 3, "log")]


async def test_blobs_follow_the_last_run_that_named_them(store, clock):
    log = await store.blobs.put(b"log")
    await store.record(*begun(store.instance), StartAttempt(attempt=an_attempt(step="s0")))
    await store.record(SealLog(run="w-1", step="s0", index=0, number=1, log=log, size=3))
    await store.write(lambda tx: tx._connection.execute("UPDATE run SET phase = 'Failed'"))
    age(store, clock, [log])
    await store.housekeep(Keep(failed=0))
    assert not store.blobs.path(log).exists()
    assert (
        await store.write(lambda tx: tx._connection.execute("SELECT * FROM blob").fetchall()) == []
    )


async def test_a_result_s_folder_keeps_its_files_when_its_run_is_gone(store, clock, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("inside")
    folder = await store.blobs.put_path(tmp_path / "out")
    entry = CacheEntry(
        source="main",
        ref="",
        key="sha256:k",
        parts={},
        workflow="w",
        step="s",
        run="w-gone",
        artifacts={"out": folder},
        created_at=clock.at,
        last_used_at=clock.at,
        expires_at=clock.at + timedelta(days=7),
    )
    await store.record(PutCacheEntry(entry=entry))
    inside = next(store.blobs.parts(folder))
    age(store, clock, [folder, inside])
    await store.housekeep(Keep())
    assert [store.blobs.path(one).exists() for one in (folder, inside)] == [True, True]


MINE = ("main", "w")


def six(phase, **given):
    return [ended(f"w-{phase}-{i}", phase, i, **given) for i in range(6)]


async def test_a_workflow_s_own_limits_come_before_the_configuration_s(store):
    await store.record(*six(Phase.SUCCEEDED), *six(Phase.ERROR))
    await store.record(ended("other", Phase.SUCCEEDED, workflow="other"))
    await store.housekeep(Keep(successful=3, failed=1), {MINE: History(failed=2)})
    assert await kept(store) == {
        *(f"w-Succeeded-{i}" for i in (3, 4, 5)),
        *(f"w-Error-{i}" for i in (4, 5)),
        "other",
    }


async def test_a_workflow_that_is_gone_keeps_the_last_limits_it_had(store):
    await store.housekeep(Keep(), {MINE: History(failed=2)})
    await store.record(*six(Phase.FAILED))
    await store.housekeep(Keep(failed=4), {})
    assert await kept(store) == {"w-Failed-4", "w-Failed-5"}


async def test_limits_that_are_taken_back_are_the_configuration_s_again(store):
    await store.housekeep(Keep(), {MINE: History(failed=2)})
    await store.housekeep(Keep(), {MINE: History()})
    await store.record(*six(Phase.FAILED))
    await store.housekeep(Keep(failed=4), {MINE: History()})
    assert len(await kept(store)) == 4


async def test_the_last_success_goes_where_its_manifest_says_so(store):
    await store.record(*six(Phase.SUCCEEDED))
    own = {MINE: History(successful=0, keep_last_successful=False)}
    assert await store.housekeep(Keep(), own) == 6


async def test_a_run_that_a_kept_rerun_repeats_stays(store):
    await store.record(*six(Phase.FAILED), ended("again", Phase.FAILED, 9, rerun_of="w-Failed-0"))
    await store.housekeep(Keep(failed=2))
    assert await kept(store) == {"again", "w-Failed-5", "w-Failed-0"}
    await store.record(*(ended(f"new-{i}", Phase.FAILED, 20 + i) for i in range(2)))
    await store.housekeep(Keep(failed=2))
    assert await kept(store) == {"new-0", "new-1"}


async def test_a_run_that_was_taken_up_since_it_was_found_is_not_dropped(store):
    await store.record(ended("w-no", Phase.FAILED))
    await store.record(CreateRun(run=a_run("again", rerun_of="w-no")))
    assert await store.write(drop_runs(["w-no", "again"])) == 0
    assert await kept(store) == {"w-no", "again"}


async def test_dead_instances_with_nothing_in_flight_are_forgotten(store, tmp_path, clock):
    other = await Store.open(tmp_path, clock=clock, kind="exec")
    busy = await Store.open(tmp_path, clock=clock, kind="exec")
    await busy.record(*begun(busy.instance))
    for one in (other, busy):
        one._lock._lock.release()  # as when its process dies: no signing off
    await store.housekeep(Keep())
    rows = await store.read(lambda reader: reader.fetch(select(metadata.tables["instance"].c.id)))
    assert {name for (name,) in rows} == {store.instance, busy.instance}
    assert not (tmp_path / "instances" / f"{other.instance}.lock").exists()
    for one in (other, busy):
        await one.close()
