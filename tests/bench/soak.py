"""A week of minutes in compressed time: what is kept after each day. See tests/soak.py."""

import asyncio
import sys
from pathlib import Path

from controller import log
from controller.model.workflow import History
from tests.bench.measure import cost, must
from tests.bench.rows import Row
from tests.bench.scale import Scale
from tests.soak import Soak
from tests.store_lives import NOON


def soak(folder: Path, scale: Scale) -> list[Row]:
    log.configure(stream=sys.stderr, level="warning")
    return asyncio.run(week(folder, scale))


async def week(folder: Path, scale: Scale) -> list[Row]:
    """Return rows of each day: the tables' rows, the database's and the blobs' bytes."""
    life = Soak(folder / "state", {"usual": History()}, NOON)
    await life.open()
    rows: list[Row] = []
    try:
        for day in range(1, scale.days + 1):
            with cost() as spent:
                await life.day()
            must(life.created == life.slots(), "a slot was lost or doubled")
            counted = await life.rows()
            told = ", ".join(f"{name} {count}" for name, count in counted.items() if count)
            figures = (
                (f"rows ({told})", sum(counted.values()), "rows"),
                ("database", life.database_bytes() / 1024, "KiB"),
                (f"blobs ({life.blobs()[0]:,})", life.blobs()[1] / 1024, "KiB"),
            )
            rows += [
                Row(
                    operation="soak",
                    figure=f"day {day}: {figure}",
                    rondel=value,
                    unit=unit,
                    wall=spent.wall,
                    cpu=spent.cpu,
                )
                for figure, value, unit in figures
            ]
    finally:
        await life.close()
    return rows
