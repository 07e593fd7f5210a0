"""100 steps whose results are kept, each with an input of its own: none runs again."""

import asyncio
import hashlib
import sqlite3
from pathlib import Path
from statistics import median

from controller import manifest
from controller.store.place import database_path
from tests.bench.engine import engine
from tests.bench.measure import Cost, cost, must
from tests.bench.rows import Row
from tests.bench.scale import Scale
from tests.conftest import Lab, Story

LOOK = "SELECT run, outputs FROM cache_entry WHERE key = ?"


def cached(folder: Path, scale: Scale) -> list[Row]:
    (folder / "inputs").mkdir()
    for n in range(scale.chain):
        (folder / "inputs" / f"in{n}").write_text(f"input {n}\n" * 10)
    return [
        asyncio.run(_measured(folder, scale, shape)) for shape in ("side by side", "in a chain")
    ]


async def _measured(folder: Path, scale: Scale, shape: str) -> Row:
    """The time of a run with these steps, less that of a run with one."""
    floors, extra, whole = [], [], Cost()
    (folder / shape).mkdir()
    async with engine(folder / shape, inputs=folder / "inputs") as lab:
        keys = await _filled(lab, _spec(scale.chain, shape))
        await _filled(lab, _spec(1, shape))
        database = database_path(folder / shape / "state", "")
        for _ in range(scale.rounds):
            floors.append(_looked_up(folder / "inputs", database, keys))
            one, many = await _served(lab, 1, shape), await _served(lab, scale.chain, shape)
            extra.append(many.wall - one.wall)
            whole += many
    return Row(
        operation="cached",
        figure=f"{scale.chain} steps {shape}",
        rondel=median(extra) * 1e3,
        unit="ms",
        floor=median(floors) * 1e3,
        floor_is="sha256 and a look-up each",
        wall=whole.wall,
        cpu=whole.cpu,
        target="5 ms",
    )


def _spec(steps: int, shape: str) -> dict[str, object]:
    return {
        "inputs": [{"name": f"in{n}", "path": f"in{n}"} for n in range(steps)],
        "defaults": {"cache": {"mode": "Auto"}},
        "steps": [
            {
                "name": f"s{n}",
                "args": ["cp", "in", "out"],
                "mounts": [{"input": f"in{n}", "path": "in"}],
                "outputs": {"text": {"path": "out"}},
                **({"needs": [f"s{n - 1}"]} if n and shape == "in a chain" else {}),
            }
            for n in range(steps)
        ],
    }


async def _filled(lab: Lab, spec: dict[str, object]) -> list[str]:
    story = await lab.run(spec)
    must(all(row.cache for row in story.steps.values()), "a step was not asked for")
    return [row.cache["key"] for row in story.steps.values()]


async def _served(lab: Lab, steps: int, shape: str) -> Cost:
    spec = _spec(steps, shape)
    run = await lab.make(spec)
    workflow = manifest.workflow(run.spec)
    with cost() as spent:
        await lab.engine.execute(run, workflow)
    _all_served(await lab.story(run.id), steps)
    return spent


def _all_served(story: Story, steps: int) -> None:
    must(len(story.steps) == steps, f"{len(story.steps)} steps")
    must(all(row.cached for row in story.steps.values()), "a step ran")
    must(not story.attempts, "an attempt was made")


def _looked_up(folder: Path, database: Path, keys: list[str]) -> float:
    """Hash each input and find each result: what no cache can do without."""
    connection = sqlite3.connect(database)
    connection.execute(LOOK, ("",)).fetchall()
    with cost() as spent:
        for n, key in enumerate(keys):
            with (folder / f"in{n}").open("rb") as file:
                hashlib.file_digest(file, "sha256").hexdigest()
            must(connection.execute(LOOK, (key,)).fetchall(), "a result is missing")
    connection.close()
    return spent.wall
