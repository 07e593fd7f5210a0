"""Ten thousand loaded and at rest: CPU and memory."""

import time
from pathlib import Path

from tests.bench import many, measure
from tests.bench.rows import Row
from tests.bench.scale import Scale

SETTLING_SECONDS = 3.0


def idle(folder: Path, scale: Scale) -> list[Row]:
    many.ensure(folder, scale)
    daemon = many.start(folder, scale)
    try:
        daemon.ready()
        daemon.until(lambda: daemon.told("listening"), "it listens")
        time.sleep(SETTLING_SECONDS)
        before, began = daemon.cpu_of_family(), time.perf_counter()
        time.sleep(scale.rest)
        cpu, wall = daemon.cpu_of_family() - before, time.perf_counter() - began
        memory = measure.pss_mib(measure.family(daemon.pid))
        measure.must(not daemon.told("run_created"), "nothing runs")
    finally:
        daemon.stop()
    return [
        Row(
            operation="idle",
            figure=f"CPU with {scale.manifests:,} at rest",
            rondel=cpu / wall * 100,
            unit="%",
            wall=wall,
            cpu=cpu,
            target="0.3 %",
        ),
        Row(
            operation="idle",
            figure="memory (PSS) of daemon and keeper",
            rondel=memory,
            unit="MiB",
            wall=wall,
            cpu=cpu,
            target="140 MiB",
        ),
    ]
