"""10,000 schedules due within one minute of a real daemon: how late their runs are there, and begin."""

import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.bench import manifests
from tests.bench.jitter import MANY
from tests.bench.measure import must
from tests.bench.rows import Row, at, median
from tests.bench.scale import Scale
from tests.bench.serving import Serving, serving

SECONDS = 60
LOADING_SECONDS, LOADED_A_SECOND = 20, 150
PATIENCE_SECONDS = 900  # ten thousand processes take two small cores some minutes
LIVES = "SELECT scheduled_time, created_at, started_at FROM run WHERE trigger = 'Schedule'"
ENDED = "SELECT count(*) FROM run WHERE phase NOT IN ('Pending', 'Running')"


def due(folder: Path, scale: Scale) -> list[Row]:
    watched, marks = folder / "watched", folder / "marks"
    marks.mkdir(parents=True)
    minute = coming_minute(scale.many_due)
    names = write(watched, marks, minute, scale.many_due)
    with serving(folder, "--source", str(watched), **MANY) as daemon:
        daemon.ready()
        must(datetime.now(UTC) < minute, "all are loaded before their minute")
        time.sleep(max(minute.timestamp() - time.time(), 0))
        before, began = daemon.cpu_of_family(), time.perf_counter()
        await_all(daemon, scale.many_due)
        wall, cpu = time.perf_counter() - began, daemon.cpu_of_family() - before
        lives = [[datetime.fromisoformat(one) for one in life] for life in daemon.ask(LIVES)]
    must(len(lives) == scale.many_due, "a slot was missed or doubled")
    made = {path.name: path.read_text() for path in marks.iterdir()}
    must(made == dict.fromkeys(names, "x\n"), "a step was missed or doubled")
    created = [(life[1] - life[0]).total_seconds() for life in lives]
    started = [(life[2] - life[0]).total_seconds() for life in lives]
    floor = bare(folder / "bare.db", scale.many_due)
    return [
        Row(
            operation="due",
            figure=f"{name} lag of {scale.many_due:,} due within a minute, until the run {what}",
            rondel=pick(lags) * 1e3,
            unit="ms",
            floor=pick(floor) * 1e3,
            floor_is="a row and an event by bare sqlite3",
            wall=wall,
            cpu=cpu,
        )
        for what, lags in (("is recorded", created), ("begins", started))
        for name, pick in (("p50", median), ("p95", lambda lags: at(lags, 0.95)), ("max", max))
    ]


def coming_minute(count: int) -> datetime:
    """Return the first whole minute at which so many are sure to be loaded."""
    loaded = timedelta(seconds=LOADING_SECONDS + count / LOADED_A_SECOND)
    return (datetime.now(UTC) + loaded).replace(second=0, microsecond=0) + timedelta(minutes=1)


def write(watched: Path, marks: Path, minute: datetime, count: int) -> list[str]:
    """Write manifests that are due once, spread over the seconds of the minute."""
    names = [f"w{number:05d}" for number in range(count)]
    for number, name in enumerate(names):
        slot = minute + timedelta(seconds=number % SECONDS)
        when = f'schedules: [{{name: once, cron: "{slot:%-S %-M %-H %-d %-m} *"}}]'
        place = watched / f"g{number // 100:03d}"
        place.mkdir(parents=True, exist_ok=True)
        text = manifests.marking(name, f"echo x >> {marks}/{name}", when)
        (place / f"{name}.yaml").write_text(text)
    return names


def await_all(daemon: Serving, count: int) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while daemon.count(ENDED) < count:
        must(time.monotonic() < end, "all have run")
        time.sleep(0.5)


def bare(path: Path, count: int) -> list[float]:
    """Seconds from a moment until the rows and events that are due then are on disk."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE run (id TEXT PRIMARY KEY, phase TEXT, at TEXT)")
    db.execute("CREATE TABLE event (id INTEGER PRIMARY KEY, run TEXT, kind TEXT, at TEXT)")
    late: list[float] = []
    for second in range(SECONDS):
        names = [f"{number}" for number in range(second, count, SECONDS)]
        began = time.perf_counter()
        db.execute("BEGIN IMMEDIATE")
        for name in names:
            db.execute("INSERT INTO run VALUES (?, 'Pending', '2026')", (name,))
            db.execute("INSERT INTO event VALUES (NULL, ?, 'RunCreated', '2026')", (name,))
        db.execute("COMMIT")
        late += [time.perf_counter() - began] * len(names)
    db.close()
    return late
