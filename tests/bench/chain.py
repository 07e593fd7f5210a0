"""100 steps one after another: what a step costs when nothing overlaps."""

import asyncio
from pathlib import Path
from statistics import median

from tests.bench.engine import done, engine
from tests.bench.measure import TRUE, Cost, cost, reap, spawn
from tests.bench.rows import Row
from tests.bench.scale import Scale
from tests.conftest import Lab


def chain(folder: Path, scale: Scale) -> list[Row]:
    return [
        asyncio.run(_measured(folder / mode, scale, mode, target))
        for mode, target in (("FULL", "3x"), ("NORMAL", "2.5x"))
    ]


async def _measured(folder: Path, scale: Scale, mode: str, target: str) -> Row:
    folder.mkdir()
    floors, steps, whole = [], [], Cost()
    async with engine(folder, mode) as lab:
        await _run(lab, 1)
        for _ in range(scale.rounds):
            floors.append(_spawned(scale.chain))
            one, many = await _run(lab, 1), await _run(lab, scale.chain)
            steps.append((many.wall - one.wall) / (scale.chain - 1))
            whole += many
    return Row(
        operation="chain",
        figure=f"a step of {scale.chain}, synchronous={mode}",
        rondel=median(steps) * 1e3,
        unit="ms",
        floor=median(floors) * 1e3,
        floor_is="posix_spawn",
        wall=whole.wall,
        cpu=whole.cpu,
        target=target,
        reach="4 ms" if mode == "FULL" else "-",
    )


async def _run(lab: Lab, steps: int) -> Cost:
    spec = {
        "steps": [
            {"name": f"s{n}", "args": ["true"], **({"needs": [f"s{n - 1}"]} if n else {})}
            for n in range(steps)
        ]
    }
    with cost() as spent:
        story = await lab.run(spec)
    done(story, steps)
    return spent


def _spawned(steps: int) -> float:
    with cost() as spent:
        for _ in range(steps):
            reap(spawn(TRUE))
    return spent.wall / steps
