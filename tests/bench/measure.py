"""Wall and CPU seconds of this process and of others, from the clock and /proc."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

TICKS = os.sysconf("SC_CLK_TCK")
TRUE = "/bin/true"


@dataclass
class Cost:
    wall: float = 0.0
    cpu: float = 0.0  # ours and of the children that ended

    def __iadd__(self, other: "Cost") -> Self:
        self.wall += other.wall
        self.cpu += other.cpu
        return self


@contextmanager
def cost() -> Iterator[Cost]:
    """Fill the yielded cost in when the block ends."""
    spent = Cost()
    wall, cpu = time.perf_counter(), _cpu()
    yield spent
    spent.wall, spent.cpu = time.perf_counter() - wall, _cpu() - cpu


def _cpu() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and of its children that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if one]


def family(pid: int) -> list[int]:
    """The process and all that came from it and lives."""
    return [pid, *(one for child in children(pid) for one in family(child))]


def pss_mib(pids: list[int]) -> float:
    """Memory of these processes, shared pages counted by share."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def spawn(*argv: str) -> int:
    return os.posix_spawn(argv[0], argv, os.environ)


def reap(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    must(status == 0, f"a floor's process ended with {status}")


def must(holds: object, what: str) -> None:
    """An operation counts only when its work was done."""
    if not holds:
        raise AssertionError(f"the work was not done: {what}")
