"""1,000 workflows due in the same second of a minute: how late each step's process starts."""

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.bench import manifests
from tests.bench.measure import must, reap, spawn
from tests.bench.rows import Row, at, median
from tests.bench.scale import Scale
from tests.bench.serving import serving

AT_ONCE = 32
LOADING_SECONDS = 12
MANY = {"RONDEL_CFG_MAXPARALLEL__RUNS": "32", "RONDEL_CFG_MAXPARALLEL__STEPS": "32"}


def jitter(folder: Path, scale: Scale) -> list[Row]:
    watched, marks, bare = folder / "watched", folder / "marks", folder / "bare"
    for one in (watched, marks, bare):
        one.mkdir(parents=True)
    names = [f"w{number:04d}" for number in range(scale.due)]
    slot = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=LOADING_SECONDS)
    when = f'schedules: [{{name: once, cron: "{slot:%-S %-M %-H %-d %-m} *"}}]'
    for name in names:
        text = manifests.marking(name, f"echo x >> {marks}/{name}", when)
        (watched / f"{name}.yaml").write_text(text)
    with serving(folder, "--source", str(watched), **MANY) as daemon:
        daemon.ready()
        must(datetime.now(UTC) < slot - timedelta(seconds=2), "all are loaded before the slot")
        time.sleep(max(slot.timestamp() - time.time() - 0.5, 0))
        before, began = daemon.cpu_of_family(), time.perf_counter()
        daemon.until(lambda: daemon.told("run_finished") >= scale.due, "all have run", pause=0.05)
        wall, cpu = time.perf_counter() - began, daemon.cpu_of_family() - before
        must(daemon.told("run_created") == scale.due, "a slot was doubled")
    ours = late(marks, names, slot.timestamp())
    began_floor = time.time()
    spawned(bare, names)
    floor = late(bare, names, began_floor)
    return [
        Row(
            operation="jitter",
            figure=f"{name} delay of {scale.due:,} due at once, {AT_ONCE} at once",
            rondel=pick(ours),
            unit="s",
            floor=pick(floor),
            floor_is="posix_spawn of the same sh",
            wall=wall,
            cpu=cpu,
            target=target,
        )
        for name, pick, target in (("p50", median, "-"), ("p99", lambda v: at(v, 0.99), "2.5x"))
    ]


def late(folder: Path, names: list[str], due: float) -> list[float]:
    """Seconds from `due` until each mark was made; each was made once."""
    found: Mapping[str, str] = {path.name: path.read_text() for path in folder.iterdir()}
    must(found == dict.fromkeys(names, "x\n"), "one was missed or doubled")
    return [max((folder / name).stat().st_mtime - due, 0) for name in names]


def spawned(folder: Path, names: list[str]) -> None:
    alive: list[int] = []
    for name in names:
        if len(alive) >= AT_ONCE:
            reap(alive.pop(0))
        alive.append(spawn("/bin/sh", "-c", f"echo x >> {os.fspath(folder)}/{name}"))
    for pid in alive:
        reap(pid)
