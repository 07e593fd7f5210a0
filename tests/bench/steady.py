"""Ten thousand at rest: a full sweep with nothing changed; one of them changed, until it runs."""

import asyncio
import os
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

from controller.clock import SystemClock
from controller.model.settings import DirectorySource
from controller.source import open_source
from tests.bench import manifests, many
from tests.bench.change import lines, until_line
from tests.bench.measure import Cost, cost, must
from tests.bench.rows import Row, median
from tests.bench.scale import Scale


def steady(folder: Path, scale: Scale) -> list[Row]:
    return [asyncio.run(sweep(folder, scale)), one_changed(folder, scale)]


async def sweep(folder: Path, scale: Scale) -> Row:
    """A look at all that finds nothing says nothing: so the look itself is called."""
    watched = many.written(folder, scale)
    settings = DirectorySource(name="bench", path=str(watched))
    source: Any = open_source(settings, state_dir=folder, clock=SystemClock(), secrets=None)
    took, floors, whole = [], [], Cost()
    known = stats(watched)
    async with aclosing(source.snapshots()) as snapshots:
        first = await anext(snapshots)
        must(len(first.entries) == scale.manifests, "all are found")
        for _ in range(scale.rounds):
            with cost() as spent:
                must(stats(watched) == known, "nothing has changed")
            floors.append(spent.wall)
            with cost() as spent:
                must(not source._folder.look({""}), "nothing is new")
            took.append(spent.wall)
            whole += spent
    return Row(
        operation="steady",
        figure=f"a sweep of {scale.manifests:,}, nothing changed",
        rondel=median(took) * 1e3,
        unit="ms",
        floor=median(floors) * 1e3,
        floor_is="stat and compare",
        wall=whole.wall,
        cpu=whole.cpu,
        target="100 ms",
    )


def stats(top: Path) -> dict[str, tuple[int, int, int]]:
    found: dict[str, tuple[int, int, int]] = {}
    for group in os.scandir(top):
        if group.is_dir():
            for entry in os.scandir(group):
                info = entry.stat(follow_symlinks=False)
                found[entry.path] = (info.st_mtime_ns, info.st_size, info.st_ino)
    return found


def one_changed(folder: Path, scale: Scale) -> Row:
    many.ensure(folder, scale)
    marks = folder / "marks"
    marks.parent.mkdir(parents=True, exist_ok=True)
    one = many.written(folder, scale) / "g000" / "one-more.yaml"
    took: list[float] = []
    daemon = many.start(folder, scale)
    try:
        daemon.ready()
        time.sleep(2)
        before, began = daemon.cpu(), time.perf_counter()
        for number in range(scale.changes):
            replaced = time.perf_counter()
            manifests.replace(one, manifests.marking("one-more", f"echo {number} >> {marks}"))
            took.append(until_line(marks, number, replaced))
            daemon.ended(number + 1)
            time.sleep(0.2)
        wall, cpu = time.perf_counter() - began, daemon.cpu() - before
    finally:
        one.unlink(missing_ok=True)
        daemon.stop()
    must(lines(marks) == [str(n) for n in range(scale.changes)], "a change missed or seen twice")
    return Row(
        operation="steady",
        figure=f"p50: one beside {scale.manifests:,} changed, to its step's mark",
        rondel=median(took) * 1e3,
        unit="ms",
        wall=wall,
        cpu=cpu,
        target="20 ms",
    )
