"""Kill the controller many times and tell what came of it: `python -m tests.kill --times 500`."""

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.kill.harness import A_WORLD, OUTSIDE, Census, Harness, Tally


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    asked.add_argument("--times", type=int, default=500)
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--edge", action="append", help="only edges whose names hold this")
    asked.add_argument("--keep", action="store_true", help="leave the worlds where they are")
    given = asked.parse_args()
    top = Path(tempfile.mkdtemp(prefix="rondel-kill-"))
    print(f"seed {given.seed}, in {top}", flush=True)
    tally = Tally()
    chance = random.Random(given.seed)  # noqa: S311 - which edge is next is no secret
    began = time.monotonic()
    try:
        census = take_census(top / "census", chance)
        edges = sampled(census, given.times, chance, given.edge or [""])
        for number in range(0, given.times, A_WORLD):
            live(top / f"world-{number}", chance, tally, census, edges[number : number + A_WORLD])
            told(tally, time.monotonic() - began)
    finally:
        if not given.keep and not tally.violations:
            shutil.rmtree(top, ignore_errors=True)
    print(table(tally))
    return 1 if tally.violations else 0


def take_census(folder: Path, chance: random.Random) -> Census:
    harness = Harness(folder, chance, Tally())
    try:
        return harness.census()
    finally:
        harness.close()


def live(
    folder: Path, chance: random.Random, tally: Tally, census: Census, edges: list[str]
) -> None:
    """Kill at these edges in a world of their own."""
    harness = Harness(folder, chance, tally)
    before = len(tally.violations)
    try:
        harness.run(census, edges)
    finally:
        harness.close()
    if len(tally.violations) == before:
        shutil.rmtree(folder)


def sampled(census: Census, times: int, chance: random.Random, words: list[str]) -> list[str]:
    """Return so many edges: each once before any comes twice, and moments between them."""
    wanted = [one for one in census.edges if any(word in one for word in words)]
    wanted += [OUTSIDE] * (len(wanted) // 10)
    found: list[str] = []
    while len(found) < times:
        found += chance.sample(wanted, len(wanted))
    return found[:times]


def told(tally: Tally, seconds: float) -> None:
    reached = sum(kill.reached for kill in tally.kills)
    print(
        f"{len(tally.kills)} kills, {reached} at their edge, "
        f"{len(tally.violations)} violations, {seconds:.0f} s",
        *tally.violations,
        sep="\n  ",
        flush=True,
    )


def table(tally: Tally) -> str:
    """Return what was killed and found, by the kind of edge."""
    rows = ["kind         edges  kills  at the edge  with keeper  violations"]
    for kind in sorted({kill.edge.partition(":")[0] for kill in tally.kills}):
        kills = [kill for kill in tally.kills if kill.edge.partition(":")[0] == kind]
        edges = len(Counter(kill.edge for kill in kills))
        at, both = sum(kill.reached for kill in kills), sum(kill.keeper_too for kill in kills)
        bad = sum(len(kill.violations) for kill in kills)
        rows.append(f"{kind:12} {edges:5}  {len(kills):5}  {at:11}  {both:11}  {bad:10}")
    ready = sorted(tally.ready_seconds)
    if ready:
        ninth = ready[int(len(ready) * 0.9)]
        rows.append(
            f"restart to ready: median {statistics.median(ready):.2f} s, "
            f"nine in ten {ninth:.2f} s, worst {ready[-1]:.2f} s, of {len(ready)}"
        )
    return "\n".join([*rows, *tally.violations])


if __name__ == "__main__":
    sys.exit(main())
