"""Another process holds the store's lock for longer than anybody waits, while runs go on."""

import asyncio
import sqlite3
from functools import partial
from typing import Any

from controller.daemon import Daemon
from controller.model.run import Phase, Run
from controller.model.settings import DirectorySource, Settings
from controller.store import Store
from tests.e2e.controller_process import ON_CHANGE, manifest

BUSY_SECONDS = 0.1


async def until(holds: Any) -> Any:
    async with asyncio.timeout(30):
        while not (found := await holds()):
            await asyncio.sleep(0.02)
    return found


async def test_a_store_that_is_locked_delays_changes_and_loses_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Store, "open", partial(Store.open, busy_seconds=BUSY_SECONDS))
    folder = tmp_path / "w"
    folder.mkdir()
    marks = tmp_path / "marks"
    marks.mkdir()
    wait = f"touch {marks}/begun; until [ -e {marks}/go ]; do sleep 0.02; done"
    (folder / "runs.yaml").write_text(manifest("runs", wait, ON_CHANGE))
    (folder / "one.yaml").write_text(manifest("one", "echo first", ON_CHANGE))
    source = DirectorySource(name="w", path=str(folder))
    made = Daemon(Settings(state_dir=tmp_path / "state", executor="local", sources=(source,)))
    task = asyncio.create_task(made.serve())

    async def ended(workflow: str) -> list[Run]:
        runs = await made.store.read(lambda reader: reader.runs(workflow=workflow))
        return [run for run in runs if run.phase.terminal]

    async with asyncio.timeout(30):
        await made.ready.wait()
        while not (marks / "begun").exists():
            await asyncio.sleep(0.02)
    await until(lambda: ended("one"))
    other = sqlite3.connect(tmp_path / "state" / "rondel.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    (folder / "one.yaml").write_text(manifest("one", "echo second", ON_CHANGE))
    (marks / "go").touch()
    said = ""
    async with asyncio.timeout(30):
        while "run_not_recorded" not in said or "load_failed" not in said:
            await asyncio.sleep(0.05)
            said += capsys.readouterr().out
    other.execute("COMMIT")
    other.close()

    async def twice():
        return len(await ended("one")) == 2

    await until(twice)
    [run] = await until(lambda: ended("runs"))
    steps, attempts = await made.store.read(
        lambda reader: (reader.steps(run.id), reader.attempts(run.id))
    )
    made.stop()
    await task
    assert (run.phase, run.reason) == (Phase.ERROR, "StoreUnavailable")
    phases = [*(step.phase for step in steps), *(one.phase for one in attempts)]
    assert all(phase.terminal for phase in phases), "nothing is left Running"
    assert "the store says: database is locked" in said
