"""The same 10,000 after a restart, nothing changed."""

import json
import sqlite3
from pathlib import Path

from tests.bench import many
from tests.bench.measure import Cost, cost, must
from tests.bench.rows import Row, median
from tests.bench.scale import Scale
from tests.bench.serving import Serving


def warm(folder: Path, scale: Scale) -> list[Row]:
    many.ensure(folder, scale)
    took, floors, whole = [], [], Cost()
    for _ in range(min(scale.rounds, 3)):
        floors.append(looked_up(many.place(folder) / "state" / "rondel.db", scale.manifests))
        daemon = many.start(folder, scale)
        try:
            took.append(daemon.ready())
            whole += Cost(took[-1], daemon.cpu())
            must(loaded(daemon, scale), "all are loaded")
            must(not daemon.told("run_created"), "nothing has changed, nothing runs")
        finally:
            daemon.stop()
    return [
        Row(
            operation="warm",
            figure=f"{scale.manifests:,} known, daemon started to ready",
            rondel=median(took),
            unit="s",
            floor=median(floors),
            floor_is="SQLite look-up and JSON",
            wall=whole.wall / len(took),
            cpu=whole.cpu / len(took),
            target="0.5 s",
            reach="1.5 s",
        )
    ]


def loaded(daemon: Serving, scale: Scale) -> bool:
    return f'"workflows": {scale.manifests}'.encode() in daemon.log()


def looked_up(database: Path, expected: int) -> float:
    with sqlite3.connect(database) as db:
        blobs = [row[0] for row in db.execute("SELECT blob FROM parsed")]
        with cost() as spent:
            for start in range(0, len(blobs), 500):
                part = blobs[start : start + 500]
                holes = ",".join("?" * len(part))
                rows = db.execute(f"SELECT blob, text FROM parsed WHERE blob IN ({holes})", part)  # noqa: S608 - holes only
                must(all(json.loads(text) for _, text in rows), "an index")
    must(len(blobs) >= expected, "all are in the cache")
    return spent.wall
