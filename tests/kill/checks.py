"""What must hold whenever the controller has come to rest after a kill. Each gives its violations."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from controller import layout
from controller.errors import RondelError
from controller.store.blobs import BlobStore
from tests.kill.controller import marked
from tests.kill.world import EXPECTED, ON_CHANGE_ONES, World

ENDED = {"Succeeded", "Failed", "Error", "Cancelled", "Interrupted", "Skipped"}
RERUN = {"rerun", "cached"}
"""Workflows whose lost runs are run again."""
HOOKS = {"nap": {"told", "end"}, "caller": {"end"}}
"""What runs after an interruption, at the latest at recovery."""


class Seen:
    """One consistent look at the store, and at what lies around it."""

    def __init__(self, world: World) -> None:
        self.world = world
        uri = f"file:{world.state / 'rondel.db'}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as self._connection:
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("BEGIN")
            self.damage = self._damage()
            self.runs = {row["id"]: row for row in self._rows("run")}
            self.steps = self._rows("step_run")
            self.attempts = self._rows("attempt")
            self.workflows = {(row["source"], row["name"]): row for row in self._rows("workflow")}
            self.schedules = self._rows("schedule")
            self.instances = {row["id"] for row in self._rows("instance")}
            self.entries = self._rows("cache_entry")
            self.inputs = self._rows("kept_input")
            events = [row for row in self._rows("event") if row["run"]]
            self.told = Counter((row["run"], row["reason"]) for row in events)
            lost = (row for row in reversed(events) if row["reason"] == "RunAdopted")
            self.lost_at = {row["run"]: row["at"] for row in lost}  # of each its first time

    def _rows(self, table: str) -> list[Any]:
        return self._connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - our own words

    def _damage(self) -> list[str]:
        said = [row[0] for row in self._connection.execute("PRAGMA integrity_check")]
        said += [str(tuple(row)) for row in self._connection.execute("PRAGMA foreign_key_check")]
        return [one for one in said if one != "ok"]

    def of(self, source: str, workflow: str) -> list[Any]:
        both = (source, workflow)
        return [run for run in self.runs.values() if (run["source"], run["workflow"]) == both]


def name(run: Any) -> str:
    return f"{run['id']} ({run['identity']}, {run['phase']}/{run['reason']})"


def active(run: Any) -> bool:
    return run["phase"] not in ENDED


def claimed_and_not_begun(seen: Seen) -> Iterator[Any]:
    """Yield the runs that an instance had claimed and recorded no attempt of, called ones apart."""
    begun = {one["run"] for one in seen.attempts}
    for run in seen.runs.values():
        if active(run) and run["instance"] and run["parent"] is None and run["id"] not in begun:
            yield run


# At rest.


def unrest(seen: Seen, ready: datetime) -> str:
    """Return what is still going on of what was there before `ready`; "" at rest."""
    waiting = [
        run
        for run in seen.runs.values()
        if active(run) and datetime.fromisoformat(run["created_at"]) < ready
    ]
    if waiting:
        return f"not ended: {', '.join(map(name, waiting))}"
    for workflow, serial in followed(seen.world):
        status = seen.workflows.get(workflow)
        newest = status and [
            run for run in seen.of(*workflow) if run["identity"] == f"change:{status['change']}"
        ]
        if not newest or json.loads(newest[0]["params"]).get("serial") != serial:
            return f"the newest text of {workflow} has no run"
        if active(newest[0]):
            return f"goes on: {name(newest[0])}"
    ticks = [run for run in seen.of("w", "tick") if run["scheduled_time"]]
    if not any(
        run["phase"] == "Succeeded" and datetime.fromisoformat(run["scheduled_time"]) > ready
        for run in ticks
    ):
        return "no slot since the start has run"
    return ""


def followed(world: World) -> Iterator[tuple[tuple[str, str], int]]:
    """Yield the workflows that start on change, each with the serial of its newest text."""
    yield from ((("w", workflow), world.serials[workflow]) for workflow in ON_CHANGE_ONES)
    if world.extra:
        yield ("x", "extra"), 0


# What must hold.


def violations(seen: Seen) -> list[str]:
    found = [f"the database is damaged: {one}" for one in seen.damage]
    for check in CHECKS:
        found += check(seen)
    return found


def every_slot_has_one_run(seen: Seen) -> Iterator[str]:
    """`tick` catches up with all: from its first slot to the last answered none is missing."""
    slots: dict[str, list[datetime]] = {}
    for run in seen.of("w", "tick") + seen.of("w", "tock"):
        if run["trigger"] == "Schedule" and run["rerun_of"] is None:
            moment = datetime.fromisoformat(run["scheduled_time"])
            slots.setdefault(run["schedule"], []).append(moment)
    through = {row["schedule"]: datetime.fromisoformat(row["through"]) for row in seen.schedules}
    for schedule, found in slots.items():
        if len(found) != len(set(found)):
            yield f"{schedule}: a slot has two runs"
        if schedule != "tock":
            first, last = min(found), through.get(schedule, max(found))
            wanted = {
                first + timedelta(seconds=n) for n in range(int((last - first).total_seconds()) + 1)
            }
            for slot in sorted(wanted.symmetric_difference(found)):
                yield f"{schedule}: slot {slot} " + (
                    "has no run" if slot in wanted else "is not due"
                )


def every_change_has_one_run(seen: Seen) -> Iterator[str]:
    for source, workflow in ((key) for key, _ in followed(seen.world)):
        status = seen.workflows[source, workflow]
        if status["answered_change"] != status["change"]:
            yield f"{workflow}: change {status['change']} is not answered"
        answers = Counter(run["identity"] for run in seen.of(source, workflow))
        for number in range(1, status["change"] + 1):
            if answers[f"change:{number}"] != 1:
                yield f"{workflow}: change {number} has {answers[f'change:{number}']} runs"


def lost_runs_are_run_again_once(seen: Seen) -> Iterator[str]:
    again = Counter(
        run["rerun_of"] for run in seen.runs.values() if run["identity"].startswith("interrupted:")
    )
    for run in seen.runs.values():
        lost = run["phase"] == "Interrupted" and run["parent"] is None
        wanted = int(lost and run["workflow"] in RERUN and run["rerun_of"] is None)
        if again[run["id"]] != wanted:
            yield f"{name(run)} was run again {again[run['id']]} times, not {wanted}"


def runs_end_as_they_should(seen: Seen) -> Iterator[str]:
    for run in seen.runs.values():
        fine = {"Succeeded", "Interrupted", *EXPECTED.get(run["workflow"], ())}
        if run["reason"] == "Superseded" and run["trigger"] == "Change":
            fine.add("Skipped")  # a newer change took its place
        if not active(run) and run["phase"] not in fine:
            yield f"{name(run)}: {run['message']}"
        if run["phase"] == "Interrupted" and run["reason"] != "ControllerLost":
            yield f"{name(run)}: {run['message']}"
        if run["phase"] == "Interrupted" and "hooks did not run" in run["message"]:
            yield f"{name(run)}: {run['message']}"


def hooks_of_lost_runs_have_run(seen: Seen) -> Iterator[str]:
    """Unless it was decided before the crash that they weren't due."""
    for row in seen.steps:
        run = seen.runs[row["run"]]
        if run["phase"] == "Interrupted" and row["name"] in HOOKS.get(run["workflow"], ()):
            late = row["finished_at"] >= seen.lost_at[run["id"]]
            if row["attempts"] == 0 and late:
                yield f"{name(run)}: {row['name']} has never begun"


def no_attempt_began_twice(seen: Seen) -> Iterator[str]:
    known = {(one["run"], one["step"], one["index"], one["number"]) for one in seen.attempts}
    for (run, step, combination, number), times in seen.world.marks().items():
        index = max(int(combination) - 1, 0)
        if times != 1:
            yield f"attempt {run} {step}.{index}.{number} began {times} times"
        if (run, step, index, int(number)) not in known:
            yield f"attempt {run} {step}.{index}.{number} began and is not recorded"


def nothing_is_left_open(seen: Seen) -> Iterator[str]:
    for run in seen.runs.values():
        if active(run) and run["instance"] and run["instance"] not in seen.instances:
            yield f"{name(run)} belongs to {run['instance']}, which is gone"
        if not active(run) and not seen.told[run["id"], f"Run{run['phase']}"]:
            yield f"{name(run)}: no event tells of its end"
    for row in (*seen.steps, *seen.attempts):
        run = seen.runs.get(row["run"])
        if run is None:
            yield f"rows of {row['run']} without a run"
        elif active(row) and not active(run):
            yield f"{name(run)} has ended, a row of it has not: {tuple(row)[:4]}"
    if len(seen.instances) != 1:
        yield f"instances: {sorted(seen.instances)}"


def nothing_lies_about(seen: Seen) -> Iterator[str]:
    going = {run["id"] for run in seen.runs.values() if active(run)}
    for place in ("work", "logs"):
        names = {path.name for path in (seen.world.state / place).glob("*")}
        for left in names - going:
            yield f"{place}/{left} was left"
    locks = {path.stem for path in (seen.world.state / "instances").glob("*.lock")}
    for left in locks - seen.instances:
        yield f"the lock of {left} was left"


def no_process_is_left(seen: Seen) -> Iterator[str]:
    open_ones = {one["nonce"] for one in seen.attempts if active(one)}
    for pid, nonce in marked(seen.world.state).items():
        if nonce not in open_ones:
            words = Path(f"/proc/{pid}/cmdline")
            said = words.read_bytes().replace(b"\0", b" ") if words.exists() else b"gone"
            yield f"process {pid} of an attempt that has ended: {said!r}"


def what_is_named_is_there(seen: Seen) -> Iterator[str]:
    blobs = BlobStore(layout.blobs(seen.world.state))
    named = {row["log"] for row in (*seen.attempts, *seen.entries) if row["log"]}
    for row in (*seen.steps, *seen.entries):
        named.update(json.loads(row["artifacts"]).values())
    named.update(row["blob"] for row in seen.inputs)
    for digest in named:
        try:
            for one in (digest, *blobs.parts(digest)):
                blobs.read(one)
        except RondelError as error:
            yield f"{digest}: {error}"
    for one in seen.attempts:
        if (one["step"], one["phase"]) == ("b", "Succeeded") and not one["log"]:
            yield f"attempt {tuple(one)[:4]} has lost its log"


CHECKS = (
    every_slot_has_one_run,
    every_change_has_one_run,
    lost_runs_are_run_again_once,
    runs_end_as_they_should,
    hooks_of_lost_runs_have_run,
    no_attempt_began_twice,
    nothing_is_left_open,
    nothing_lies_about,
    no_process_is_left,
    what_is_named_is_there,
)
