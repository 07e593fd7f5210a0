"""100 steps whose results are kept, each with an input of its own: none runs again."""

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from statistics import median
from typing import Any

from controller import manifest
from controller.execute.cached import Cached
from controller.execute.request import Materials
from controller.model.run import StepRun
from controller.store.place import database_path
from tests.bench.engine import engine
from tests.bench.measure import Cost, cost, must
from tests.bench.rows import Row
from tests.bench.scale import Scale
from tests.conftest import Lab, Story

BESIDE, CHAIN = "side by side", "in a chain"
Measure = Callable[[Lab, Story, str], Coroutine[Any, Any, Cost]]
LOOK = "SELECT run, outputs FROM cache_entry WHERE key = ?"


def cached(folder: Path, scale: Scale) -> list[Row]:
    (folder / "inputs").mkdir()
    for n in range(scale.chain):
        (folder / "inputs" / f"in{n}").write_text(f"input {n}\n" * 10)
    return [
        asyncio.run(_measured(folder, scale, shape, measure))
        for shape, measure in ((BESIDE, _answered), (BESIDE, _served), (CHAIN, _served))
    ]


async def _measured(folder: Path, scale: Scale, shape: str, measure: Measure) -> Row:
    place = folder / f"{WORK[measure].replace(' ', '-')} {shape}"
    place.mkdir()
    floors, spent, whole = [], [], Cost()
    async with engine(place, inputs=folder / "inputs") as lab:
        filled = await lab.run(_spec(scale.chain, shape))
        keys = [row.cache["key"] for row in filled.steps.values()]
        database = database_path(place / "state", "")
        for _ in range(scale.rounds):
            floors.append(_looked_up(folder / "inputs", database, keys))
            once = await measure(lab, filled, shape)
            spent.append(once.wall)
            whole += once
    return Row(
        operation="cached",
        figure=f"{WORK[measure]} {scale.chain} steps {shape}",
        rondel=median(spent) * 1e3,
        unit="ms",
        floor=median(floors) * 1e3,
        floor_is="sha256 and a look-up each",
        wall=whole.wall,
        cpu=whole.cpu,
        target="5 ms" if measure is _answered else "-",
    )


async def _answered(lab: Lab, filled: Story, shape: str) -> Cost:
    """Keys, look-ups and rows, as the daemon has them once its inputs lie ready."""
    del shape
    workflow = manifest.workflow(filled.run.spec)
    made = Materials(
        run=filled.run,
        workflow=workflow,
        folder=Path(),
        blobs=lab.store.blobs,
        secrets={},
        cache_scope="",
    )
    made.begin()
    house = lab.engine._house
    asking = Cached(
        lab.store,
        made,
        blobs=house.blobs,
        clock=house.clock,
        scopes=house.scopes(filled.run.source),
        executor="local",
        resolve=_never,
    )
    rows = {step.name: StepRun(run="r", name=step.name) for step in workflow.steps}
    with cost() as spent:
        answers = await asking.ask((step, rows[step.name]) for step in workflow.steps)
        served = [await asking.serve(one, rows[name]) for (name, _), one in answers.items()]
    must(len(served) == len(workflow.steps), "a step has no answer")
    return spent


async def _never(image: str) -> str:
    raise AssertionError(image)  # these steps name none


async def _served(lab: Lab, filled: Story, shape: str) -> Cost:
    """A whole run: inputs copied and hashed, answers, the rows on disk."""
    run = await lab.make(_spec(len(filled.steps), shape))
    workflow = manifest.workflow(run.spec)
    with cost() as spent:
        await lab.engine.execute(run, workflow)
    story = await lab.story(run.id)
    must(len(story.steps) == len(filled.steps), f"{len(story.steps)} steps")
    must(all(row.cached for row in story.steps.values()), "a step ran")
    must(not story.attempts, "an attempt was made")
    return spent


WORK: dict[Measure, str] = {_answered: "answers to", _served: "a run of"}


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
                **({"needs": [f"s{n - 1}"]} if n and shape == CHAIN else {}),
            }
            for n in range(steps)
        ],
    }


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
