"""kill -9 with 100 runs in flight, then a restart: until no run is Running by mistake."""

import sqlite3
import time
from pathlib import Path

from tests.bench import manifests
from tests.bench.measure import cost, must
from tests.bench.rows import Row
from tests.bench.scale import Scale
from tests.bench.serving import Serving

MANY = {"RONDEL_CFG_MAXPARALLEL__RUNS": "200", "RONDEL_CFG_MAXPARALLEL__STEPS": "200"}
UNSETTLED = "SELECT count(*) FROM run WHERE phase IN ('Running', 'Pending')"


def crash(folder: Path, scale: Scale) -> list[Row]:
    watched, marks = folder / "watched", folder / "marks"
    for one in (watched, marks):
        one.mkdir(parents=True)
    names = [f"w{number:03d}" for number in range(scale.flight)]
    for name in names:
        text = manifests.marking(name, f"echo x >> {marks}/{name}; exec sleep 600")
        (watched / f"{name}.yaml").write_text(text)
    words = ("--source", str(watched))
    daemon = Serving(folder, *words, **MANY)
    try:
        daemon.until(lambda: len(list(marks.iterdir())) == len(names), "all are in flight")
        time.sleep(0.5)
    finally:
        daemon.kill()
    floor = marked(folder / "state" / "rondel.db")
    daemon = Serving(folder, *words, **MANY)
    try:
        daemon.until(lambda: not daemon.count(UNSETTLED), "no run is Running by mistake")
        wall, cpu = time.perf_counter() - daemon.started, daemon.cpu()
        daemon.ready()
        time.sleep(0.5)
        phases = daemon.ask("SELECT phase, count(*) FROM run GROUP BY phase")
        must(phases == [("Interrupted", len(names))], f"none lost, none doubled: {phases}")
    finally:
        daemon.stop()
    found = {path.name: path.read_text() for path in marks.iterdir()}
    must(found == dict.fromkeys(names, "x\n"), "a step ran twice")
    return [
        Row(
            operation="crash",
            figure=f"{len(names)} in flight, restart to all settled",
            rondel=wall,
            unit="s",
            floor=floor,
            floor_is="reopen and mark",
            wall=wall,
            cpu=cpu,
            target="1 s",
        )
    ]


def marked(database: Path) -> float:
    """Open the same store and mark the same rows, then leave it as it was."""
    with cost() as spent:
        db = sqlite3.connect(database, isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE run SET phase = 'Interrupted' WHERE phase = 'Running'")
        db.execute("ROLLBACK")
        db.close()
    return spent.wall
