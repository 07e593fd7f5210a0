"""Housekeeping of a whole state directory: what is used stays, what crashes left goes."""

import os
from datetime import timedelta

from controller.housekeeping import housekeep, keep_of
from controller.layout import logs, work
from controller.model.changes import CreateRun
from controller.model.run import Phase
from controller.model.settings import Settings
from controller.model.workflow import History
from controller.store import Store
from tests.store_lives import NOON, FixedClock, a_run, begun


def folder_of(place, run, *, old=True):
    folder = place / run
    folder.mkdir(parents=True)
    (folder / "left").write_text("x")
    at = (NOON - timedelta(days=2)).timestamp() if old else NOON.timestamp()
    os.utime(folder, (at, at))
    return folder


async def test_only_folders_of_runs_that_are_over_or_gone_are_swept(tmp_path):
    clock = FixedClock()
    store = await Store.open(tmp_path, clock=clock)
    await store.record(*begun(store.instance, "goes-on"))
    await store.record(CreateRun(run=a_run("over", phase=Phase.FAILED, finished_at=NOON)))
    stay = [
        *(folder_of(logs(tmp_path), run) for run in ("goes-on", "over")),
        folder_of(logs(tmp_path), "just-made", old=False),
        folder_of(work(tmp_path), "goes-on"),
    ]
    go = [
        folder_of(logs(tmp_path), "dropped"),
        folder_of(work(tmp_path), "over"),
        folder_of(work(tmp_path), "dropped"),
    ]
    await housekeep(Settings(state_dir=tmp_path, executor="local"), store, clock, {})
    await store.close()
    assert [one for one in stay if not one.exists()] == []
    assert [one for one in go if one.exists()] == []


async def test_what_workflows_declare_reaches_the_store(tmp_path):
    clock = FixedClock(NOON + timedelta(days=1))
    store = await Store.open(tmp_path, clock=clock)
    for n in range(4):
        at = NOON + timedelta(minutes=n)
        run = a_run(f"w-{n}", phase=Phase.FAILED, created_at=at, finished_at=at)
        await store.record(CreateRun(run=run))
    settings = Settings(state_dir=tmp_path, history_failed=3)
    assert keep_of(settings).failed == 3
    await housekeep(settings, store, clock, {("main", "w"): History(failed=1)})
    assert [run.id for run in await store.read(lambda reader: reader.runs())] == ["w-3"]
    await store.close()


async def test_a_store_that_can_t_be_read_is_told_and_swept_another_time(tmp_path, capsys):
    store = await Store.open(tmp_path, clock=FixedClock())
    await store.close()
    left = folder_of(logs(tmp_path), "dropped")
    await housekeep(Settings(state_dir=tmp_path), store, FixedClock(), {})
    assert left.exists()
    assert "housekeeping_failed" in capsys.readouterr().out
