"""Run operations and print their rows as they come, then the whole table."""

import argparse
import platform
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.bench.cached import cached
from tests.bench.chain import chain
from tests.bench.change import change
from tests.bench.cold import cold
from tests.bench.commit import commit
from tests.bench.crash import crash
from tests.bench.due import due
from tests.bench.fan import fan
from tests.bench.idle import idle
from tests.bench.jitter import jitter
from tests.bench.monorepo import monorepo
from tests.bench.plan import plan
from tests.bench.record import record
from tests.bench.rows import Row, table
from tests.bench.scale import SCALES, Scale
from tests.bench.soak import soak
from tests.bench.start import start
from tests.bench.steady import steady
from tests.bench.warm import warm
from tests.bench.week import week

Operation = Callable[[Path, Scale], list[Row]]
OPERATIONS: dict[str, Operation] = {
    one.__name__: one
    for one in (
        *(start, chain, fan, cached, record, change, commit, monorepo, plan),
        *(cold, warm, steady, idle, jitter, due, crash, soak, week),
    )
}


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    asked.add_argument("operation", nargs="*", metavar="OPERATION", help=", ".join(OPERATIONS))
    asked.add_argument("--scale", choices=SCALES, default="full")
    given = asked.parse_args()
    unknown = set(given.operation) - OPERATIONS.keys()
    if unknown:
        asked.error(f"no such operation: {', '.join(sorted(unknown))}")
    print(f"Python {platform.python_version()}, {platform.machine()}, scale {given.scale}")
    rows, failed = run(given.operation or list(OPERATIONS), SCALES[given.scale])
    print(f"\n{table(rows)}")
    for name, problem in failed.items():
        print(f"{name} does not count: {problem}", file=sys.stderr)
    return 1 if failed else 0


def run(names: list[str], scale: Scale) -> tuple[list[Row], dict[str, str]]:
    """Run these operations, each in its own folder; one that fails does not stop the others."""
    rows: list[Row] = []
    failed: dict[str, str] = {}
    top = Path(tempfile.mkdtemp(prefix="rondel-bench-"))
    try:
        for name in names:
            began = time.monotonic()
            folder = top / name
            folder.mkdir()
            try:
                found = OPERATIONS[name](folder, scale)
            except Exception as problem:  # noqa: BLE001 - told, and the others still run
                traceback.print_exc()
                failed[name] = str(problem)
                continue
            rows += found
            for row in found:
                print("  ".join(row.cells()), flush=True)
            print(f"{name}: {time.monotonic() - began:.0f} s in all", file=sys.stderr, flush=True)
    finally:
        if failed:
            print(f"what they left is in {top}", file=sys.stderr)
        else:
            shutil.rmtree(top, ignore_errors=True)
    return rows, failed


if __name__ == "__main__":
    sys.exit(main())
