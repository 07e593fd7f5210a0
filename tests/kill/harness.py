"""Kills a controller at edge after edge, and looks each time whether all is well again."""

import http.client
import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.kill.checks import Seen, claimed_and_not_begun, unrest, violations
from tests.kill.controller import PATIENCE_SECONDS, Controller, StuckError
from tests.kill.switch import Order
from tests.kill.world import World

EARLY_SECONDS = 4.0  # until a kill comes from outside
LIVE_SECONDS = 2.5  # as above, twice: in between all is stirred once more
LINGER_SECONDS = 5.0  # for what is being cleared while we look
A_WORLD = 25  # kills, then a new one: its checks read everything
CLAIMS = 20  # tries: which run is claimed first is a matter of moments
SELDOM = 0.3
OUTSIDE = "outside"  # no edge: some moment


@dataclass
class Census:
    """How often each edge is come to: while a controller starts, and while it works."""

    early: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    lives: int = 0
    stirs: int = 0

    def times(self, edge: str, *, early: bool) -> int:
        """Return how often the edge is come to in one start, or in one stir; at least once."""
        found = self.early[edge] // self.lives if early else self.late[edge] // self.stirs
        return max(1, found)

    @property
    def edges(self) -> list[str]:
        return sorted({*self.early, *self.late})

    def add(self, told: Path) -> None:
        early, late = json.loads(told.read_text())
        self.early.update(early)
        self.late.update(late)
        self.lives += 1


@dataclass
class Kill:
    """One kill and what came of it."""

    edge: str
    early: bool
    keeper_too: bool
    reached: bool = False
    violations: list[str] = field(default_factory=list)


@dataclass
class Tally:
    """What a harness has seen."""

    kills: list[Kill] = field(default_factory=list)
    ready_seconds: list[float] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        return [
            f"after {kill.edge}{' early' * kill.early}{' keeper' * kill.keeper_too}: {one}"
            for kill in self.kills
            for one in kill.violations
        ]


class Harness:
    """One world and the lives of the controllers in it."""

    def __init__(self, folder: Path, chance: random.Random, tally: Tally) -> None:
        folder.mkdir()
        self.world = World(folder, chance)
        self.tally = tally
        self._chance = chance
        self._arm, self._census = folder / "arm", folder / "census"
        self._asked: dict[str, str] = {}  # acknowledged runs: id -> what was asked
        self._keys = 0
        self._controller: Controller | None = None

    # Lives.

    def start(self, **words: Any) -> Controller:
        self._arm.unlink(missing_ok=True)
        told = self.world.folder / "told"
        order = Order(census=str(self._census), told=str(told), **words)
        self._controller = Controller(self.world, order)
        return self._controller

    def close(self) -> None:
        """End what an error has left running."""
        if self._controller is not None:
            self._controller.kill()

    def settle(self, controller: Controller) -> list[str]:
        """Wait until what was before has ended; return what is wrong then."""
        ready = controller.until_told("ready")
        if ready is None:
            raise StuckError("it ended by itself")
        self.tally.ready_seconds.append(time.monotonic() - controller.began)
        began = datetime.fromisoformat(ready["time"])
        end = time.monotonic() + PATIENCE_SECONDS
        while going := unrest(seen := Seen(self.world), began):
            if not controller.alive:
                raise StuckError("it ended by itself")
            if time.monotonic() > end:
                return [f"never at rest: {going}", *violations(seen)]
            time.sleep(0.1)
        end = time.monotonic() + LINGER_SECONDS
        while found := [*violations(seen), *self._broken_promises(seen)]:
            if time.monotonic() > end:
                return found
            time.sleep(0.2)
            seen = Seen(self.world)
        return []

    def _broken_promises(self, seen: Seen) -> Iterator[str]:
        for run, asked in self._asked.items():
            row = seen.runs.get(run)
            if row is None:
                yield f"{run} was acknowledged ({asked}) and is lost"
            elif asked == "retry" and row["phase"] == "Failed":
                yield f"{run}: its retry was acknowledged and is lost"

    def stir(self, controller: Controller, *, rest: float = SELDOM) -> None:
        """Change and ask for as much as can be; what is dear, with that probability."""
        self._arm.touch()
        self.world.stir(rest=rest)
        controller.until_told("listening")
        with suppress(OSError, http.client.HTTPException, ValueError):  # it died: nothing was said
            self._ask(controller, rest)
        if self._chance.random() < rest:
            self.world.stir(rest=0)

    def _ask(self, controller: Controller, rest: float) -> None:
        for run, asked in list(self._asked.items()):
            if asked == "run":
                code, _ = controller.ask("POST", f"runs/{run}/retry", {"queue": True})
                if code == 202:
                    self._asked[run] = "retry"
        self._keys += 1
        for _ in range(2):  # the same wish twice is one
            path, headers = "sources/w/workflows/manual/runs", {"Idempotency-Key": f"{self._keys}"}
            code, made = controller.ask("POST", path, {"queue": True}, **headers)
            if code == 201:
                self._asked.setdefault(made["id"], "run")
        if self._chance.random() < rest:
            controller.ask("POST", "cache/prune", {"all": True})
        if self._chance.random() < rest:
            self._cancel_one(controller)

    def _cancel_one(self, controller: Controller) -> None:
        _, found = controller.ask("GET", "runs?workflow=nap&phase=Running")
        for run in found["items"]:
            code, _ = controller.ask("POST", f"runs/{run['id']}/cancel", {})
            if code == 202:
                self._asked[run["id"]] = "cancel"

    # Undisturbed, to see which edges there are.

    def census(self) -> Census:
        """Live undisturbed, killed in the middle of work, at a claim, and after that."""
        found = Census()
        self._calm(found)
        controller = self.start()
        self.settle(controller)
        self.stir(controller)
        while not any(run["phase"] == "Running" for run in Seen(self.world).of("w", "rerun")):
            time.sleep(0.02)
        controller.kill()
        self._die_between_claim_and_begin()
        self._calm(found)
        return found

    def _die_between_claim_and_begin(self) -> None:
        """Leave a run that is claimed and not begun; one that is retried or called was begun."""
        for _ in range(CLAIMS):
            if not self.start(edge="change:ClaimRun:committed").ended(PATIENCE_SECONDS):
                raise StuckError("it claimed nothing")
            if any(claimed_and_not_begun(Seen(self.world))):
                return
        raise StuckError(f"{CLAIMS} kills at a claim, and none of a run that was not begun")

    def _calm(self, census: Census) -> None:
        self.world.configure()
        controller = self.start(armed_by=str(self._arm))
        self._expect_nothing(self.settle(controller))
        for rest in (1, 0):
            self.stir(controller, rest=rest)
            self._expect_nothing(self.settle(controller))
            census.stirs += 1
        self.finish(controller)
        census.add(self._census)

    def _expect_nothing(self, found: list[str]) -> None:
        if found:
            raise AssertionError("\n".join(found))

    def finish(self, controller: Controller) -> None:
        code = controller.stop()
        if code != 0:
            raise StuckError(f"it ended with {code}")

    # Kills.

    def kill_at(self, census: Census, edge: str) -> None:
        """Have a controller killed at an edge; first it shows that all is well since the last."""
        early = self._is_early(census, edge)
        times = census.times(edge, early=early)
        kill = Kill(edge, early, keeper_too=self._chance.random() < 0.3)
        self.world.configure()
        if early and self._chance.random() < 0.7:
            self.world.stir(rest=SELDOM)
        controller = self.start(
            edge=edge,
            nth=self._chance.randint(1, times),
            armed_by="" if early else str(self._arm),
            keeper_too=kill.keeper_too,
        )
        if not early:
            self._judge(controller)
            self.stir(controller)
        self.tally.kills.append(kill)
        kill.reached = self._await_the_end(controller, early=early)

    def _is_early(self, census: Census, edge: str) -> bool:
        if edge == OUTSIDE:
            return self._chance.random() < 0.3
        if census.early[edge] and census.late[edge]:
            return self._chance.random() < 0.3
        return bool(census.early[edge])

    def _await_the_end(self, controller: Controller, *, early: bool) -> bool:
        """Return whether it came by itself, at its edge."""
        limit = EARLY_SECONDS if early else LIVE_SECONDS
        if controller.order.edge == OUTSIDE:
            limit *= self._chance.random()
        elif not early and not controller.ended(limit):
            self.stir(controller, rest=1)
        reached = controller.ended(limit)
        controller.kill()
        return reached

    def _judge(self, controller: Controller) -> None:
        """Whatever is wrong now came of the last kill."""
        found = self.settle(controller)
        if found and self.tally.kills:
            self.tally.kills[-1].violations += found
        elif found:
            raise AssertionError("\n".join(found))

    def run(self, census: Census, edges: Iterable[str]) -> None:
        """Kill at each of the edges, then see that all is well."""
        for edge in edges:
            self.kill_at(census, edge)
        self.world.configure()
        controller = self.start()
        self._judge(controller)
        self.finish(controller)
