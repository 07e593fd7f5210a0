"""100 independent steps, ten at once."""

import asyncio
from pathlib import Path
from statistics import median

from tests.bench.engine import done, engine
from tests.bench.measure import TRUE, Cost, cost, reap, spawn
from tests.bench.rows import Row
from tests.bench.scale import Scale

AT_ONCE = 10


def fan(folder: Path, scale: Scale) -> list[Row]:
    return [asyncio.run(_measured(folder, scale))]


async def _measured(folder: Path, scale: Scale) -> Row:
    count, floors, steps, whole = scale.chain, [], [], Cost()
    spec = {
        "maxParallel": AT_ONCE,
        "steps": [{"name": f"s{n}", "args": ["true"]} for n in range(count)],
    }
    async with engine(folder) as lab:
        await lab.run(spec)
        for _ in range(scale.rounds):
            floors.append(_spawned(count))
            with cost() as spent:
                story = await lab.run(spec)
            done(story, count)
            steps.append(spent.wall / count)
            whole += spent
    return Row(
        operation="fan",
        figure=f"a step of {count}, {AT_ONCE} at once",
        rondel=median(steps) * 1e3,
        unit="ms",
        floor=median(floors) * 1e3,
        floor_is="posix_spawn",
        wall=whole.wall,
        cpu=whole.cpu,
        target="2.5x",
    )


def _spawned(steps: int) -> float:
    with cost() as spent:
        alive: list[int] = []
        for _ in range(steps):
            if len(alive) >= AT_ONCE:
                reap(alive.pop(0))
            alive.append(spawn(TRUE))
        for pid in alive:
            reap(pid)
    return spent.wall / steps
