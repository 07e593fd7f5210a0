"""Kills this process at the n-th time that a named edge is come to; counts all of them."""

import json
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

VARIABLE = "KILL_ORDER"
KEEPER = b"keeper_main.py"


@dataclass(frozen=True)
class Order:
    """When a process is to end itself, and where it tells what it came to."""

    census: str  # a file: edge -> how often it was come to, written at a polite end
    told: str  # a file: written just before the kill
    edge: str = ""  # "": never
    nth: int = 1
    armed_by: str = ""  # a file: counted from its appearance on; "": from the start
    keeper_too: bool = False  # as when a whole host dies: nobody is left to end the steps

    def as_environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def of_environment(cls) -> Self:
        return cls(**json.loads(os.environ.pop(VARIABLE)))


class Switch:
    """Counts the edges that are come to, and pulls the plug at the one that was ordered."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.early: Counter[str] = Counter()  # until it is armed
        self.late: Counter[str] = Counter()
        self._left = order.nth
        self._armed = not order.armed_by
        self._lock = threading.RLock()  # what is done under it is told to it as well

    def hit(self, edge: str) -> None:
        with self._lock:
            armed = self._is_armed()
            (self.late if armed else self.early)[edge] += 1
            if not armed or edge != self.order.edge:
                return
            self._left -= 1
            if self._left == 0:
                self._die(edge)

    def _is_armed(self) -> bool:
        self._armed = self._armed or Path(self.order.armed_by).exists()
        return self._armed

    def _die(self, edge: str) -> None:
        order, self.order = self.order, Order(census="", told="")  # from here on nothing counts
        keeper = keeper_pid() if order.keeper_too else None
        Path(order.told).write_text(edge)
        if keeper is not None:
            os.kill(keeper, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    def write_census(self) -> None:
        Path(self.order.census).write_text(json.dumps([self.early, self.late]))


def keeper_pid() -> int | None:
    """Return the pid of this process's keeper, if it has one."""
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            if KEEPER in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    return None
