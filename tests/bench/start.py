"""`rondel --help`; a daemon with one workflow; its memory at rest."""

import subprocess
import sys
import time
from pathlib import Path

from tests.bench import manifests, measure
from tests.bench.measure import Cost, cost, must
from tests.bench.rows import Row, median
from tests.bench.scale import Scale
from tests.bench.serving import RONDEL, serving

IMPORTS = "import structlog, sqlalchemy, starlette, uvicorn, yaml, cattrs, watchfiles"


def start(folder: Path, scale: Scale) -> list[Row]:
    return [shown(scale), *served(folder, scale)]


def shown(scale: Scale) -> Row:
    took, floors, whole = [], [], Cost()
    for _ in range(scale.rounds + 2):
        floors.append(ran("-c", "pass")[0].wall)
        spent, text = ran(*RONDEL[1:], "--help")
        must(b"serve" in text, "the help was shown")
        took.append(spent.wall)
        whole += spent
    return Row(
        operation="start",
        figure="rondel --help",
        rondel=median(took) * 1e3,
        unit="ms",
        floor=median(floors) * 1e3,
        floor_is="python -c pass",
        wall=whole.wall / len(took),
        cpu=whole.cpu / len(took),
        target="150 ms",
        reach="200 ms",
    )


def ran(*words: str) -> tuple[Cost, bytes]:
    with cost() as spent:
        done = subprocess.run([sys.executable, *words], check=True, stdout=subprocess.PIPE)
    return spent, done.stdout


def served(folder: Path, scale: Scale) -> list[Row]:
    watched = folder / "watched"
    watched.mkdir(parents=True)
    (watched / "w.yaml").write_text(manifests.marking("w", "true", "suspend: true"))
    took, floors, whole = [], [], Cost()
    for turn in range(scale.rounds):
        floors.append(ran("-c", IMPORTS)[0].wall)
        with serving(folder / str(turn), "--source", str(watched)) as daemon:
            took.append(daemon.ready())
            whole += Cost(took[-1], daemon.cpu())
            daemon.until(lambda: daemon.told("listening"), "it listens")
            time.sleep(1)
            memory = measure.pss_mib(measure.family(daemon.pid))
            must(daemon.count("SELECT count(*) FROM workflow") == 1, "it knows its workflow")
    wall, cpu = whole.wall / len(took), whole.cpu / len(took)
    return [
        Row(
            operation="start",
            figure="daemon with one workflow, started to ready",
            rondel=median(took) * 1e3,
            unit="ms",
            floor=median(floors) * 1e3,
            floor_is="python and its imports",
            wall=wall,
            cpu=cpu,
            target="800 ms",
        ),
        Row(
            operation="start",
            figure="memory (PSS) at rest, daemon and keeper",
            rondel=memory,
            unit="MiB",
            wall=wall,
            cpu=cpu,
            target="80 MiB",
        ),
    ]
