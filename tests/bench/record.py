"""Whole lives of three-step runs, written by the store."""

import asyncio
import sqlite3
from pathlib import Path
from statistics import median

from controller.clock import SystemClock
from controller.store import Store
from tests.bench.measure import Cost, cost, must
from tests.bench.rows import Row
from tests.bench.scale import Scale
from tests.store_lives import life

COMMITS = 8
TARGETS = {("FULL", 100): "2x", ("NORMAL", 100): "0.5x", ("FULL", 1): "0.4x"}


def record(folder: Path, scale: Scale) -> list[Row]:
    rows = []
    for mode, at_once in TARGETS:
        place = folder / f"{mode}-{at_once}"
        place.mkdir()
        rows.append(asyncio.run(_measured(place, scale, mode, at_once)))
    return rows


async def _measured(folder: Path, scale: Scale, mode: str, at_once: int) -> Row:
    floors, rates, whole = [], [], Cost()
    lives = scale.lives if mode == "NORMAL" or at_once > 1 else scale.lives // 4 or 1
    store = await Store.open(folder / "state", clock=SystemClock(), kind="exec", synchronous=mode)
    try:
        for turn in range(scale.rounds):
            floors.append(_raw(folder / f"raw-{turn}.db", max(lives // 4, 1), mode))
            with cost() as spent:
                await _lives(store, [f"w-{turn}-{n}" for n in range(lives)], at_once)
            rates.append(lives / spent.wall)
            whole += spent
        runs = await store.read(lambda reader: reader.runs(limit=lives * scale.rounds + 1))
        must(len(runs) == lives * scale.rounds, "a run is missing or doubled")
        must(all(run.phase.terminal for run in runs), "a run has no end")
    finally:
        await store.close()
    return Row(
        operation="record",
        figure=f"lives of 3 steps, {at_once} at once, synchronous={mode} (more is better)",
        rondel=median(rates),
        unit="a second",
        floor=median(floors),
        floor_is=f"sqlite3, {COMMITS} commits each",
        wall=whole.wall,
        cpu=whole.cpu,
        target=TARGETS[mode, at_once],
    )


async def _lives(store: Store, names: list[str], at_once: int) -> None:
    waiting = iter(names)

    async def one_after_another() -> None:
        for name in waiting:
            for changes in life(store.instance, name):
                must(all(await store.record(*changes)), f"a change of {name} was refused")

    await asyncio.gather(*(one_after_another() for _ in range(at_once)))


def _raw(path: Path, lives: int, mode: str) -> float:
    """Runs a second of bare SQLite: one row changed and one event written in each commit."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {mode}")
    db.execute("CREATE TABLE run (id TEXT PRIMARY KEY, phase TEXT, n INTEGER)")
    db.execute("CREATE TABLE event (id INTEGER PRIMARY KEY, run TEXT, kind TEXT, at TEXT)")
    with cost() as spent:
        for number in range(lives):
            for step in range(COMMITS):
                db.execute("BEGIN IMMEDIATE")
                db.execute(
                    "INSERT INTO run VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = excluded.n",
                    (f"w-{number}", "Running", step),
                )
                db.execute(
                    "INSERT INTO event (run, kind, at) VALUES (?, ?, ?)",
                    (f"w-{number}", "StepFinished", "2026-11-23T12:00:00.000000Z"),
                )
                db.execute("COMMIT")
    must(db.execute("SELECT count(*) FROM event").fetchone() == (lives * COMMITS,), "an event")
    db.close()
    return lives / spent.wall
