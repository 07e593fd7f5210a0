"""A watched file is replaced: until the first step's process has made its mark."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import manifests
from tests.bench.measure import cpu_of, family, must
from tests.bench.rows import Row, at, median
from tests.bench.scale import Scale
from tests.bench.serving import serving

BARE = """
import os, sys
from pathlib import Path
from watchfiles import watch
folder, marks = sys.argv[1:]
print("watching", flush=True)
for found in watch(folder, step=1, debounce=10, watch_filter=None, rust_timeout=5000):
    if any(path.endswith("w.yaml") for _, path in found):
        number = (Path(folder) / "w.yaml").read_text().split()[-1]
        argv = ["sh", "-c", f"echo {number} >> {marks}"]
        os.waitpid(os.posix_spawnp("sh", argv, os.environ), 0)
"""


def change(folder: Path, scale: Scale) -> list[Row]:
    watched, marks = folder / "watched", folder / "marks"
    bare, bare_marks = folder / "bare", folder / "bare-marks"
    for one in (watched, bare):
        one.mkdir(parents=True)

    def ours(number: int) -> str:
        return manifests.marking("w", f"echo {number} >> {marks}")

    (watched / "w.yaml").write_text(ours(0))
    took: list[float] = []
    floors: list[float] = []
    with serving(folder, "--source", str(watched)) as daemon:
        daemon.ready()
        daemon.until(lambda: lines(marks) == ["0"], "the first run")
        floor = subprocess.Popen(
            [sys.executable, "-c", BARE, str(bare), str(bare_marks)], stdout=subprocess.PIPE
        )
        try:
            must(floor.stdout is not None and floor.stdout.readline(), "the floor watches")
            time.sleep(0.3)
            before, began = daemon.cpu(), time.perf_counter()
            for number in range(1, scale.changes + 1):
                time.sleep(0.2)
                took.append(until_marked(watched, ours(number), marks, number))
                daemon.ended(number + 1)
                floors.append(until_marked(bare, f"# {number}", bare_marks, number))
            wall, cpu = time.perf_counter() - began, daemon.cpu() - before
            cpu += sum(map(cpu_of, family(daemon.pid)[1:]))
        finally:
            floor.kill()
            floor.wait()
    expected = [str(number) for number in range(scale.changes + 1)]
    must(lines(marks) == expected, "a change was missed or seen twice")
    return [
        Row(
            operation="change",
            figure=f"{name} of {scale.changes}, file replaced to the step's mark",
            rondel=pick(took) * 1e3,
            unit="ms",
            floor=pick(floors) * 1e3,
            floor_is="watchfiles to sh",
            wall=wall,
            cpu=cpu,
            target=target,
            reach=reach,
        )
        for name, pick, target, reach in percentiles("25 ms", "40 ms", "50 ms")
    ]


def percentiles(
    half: str, most: str, reach: str
) -> list[tuple[str, Callable[[list[float]], float], str, str]]:
    return [("p50", median, half, reach), ("p95", lambda values: at(values, 0.95), most, "-")]


def until_marked(folder: Path, text: str, marks: Path, number: int) -> float:
    began = time.perf_counter()
    manifests.replace(folder / "w.yaml", text)
    return until_line(marks, number, began)


def until_line(marks: Path, number: int, began: float) -> float:
    """Return the seconds from `began` until the last line of `marks` is this number."""
    while lines(marks)[-1:] != [str(number)]:
        must(time.perf_counter() - began < 20, f"change {number} was seen")
        time.sleep(0.0003)
    return time.perf_counter() - began


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []
