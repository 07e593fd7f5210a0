"""A run a second, on a daemon that is stopped, drained, reloaded, upgraded and killed in turn.

No slot may be lost, none doubled.
"""

import itertools
import os
import signal
import subprocess
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from controller.store.schema import HEAD
from tests.bench.measure import cost, must
from tests.bench.rows import Row
from tests.bench.scale import Scale
from tests.bench.serving import RONDEL, Serving
from tests.conftest import environment
from tests.older_store import BEFORE, set_back

EACH_SECOND = (
    'schedules: [{name: each, cron: "* * * * * *"}]\n'
    "  concurrencyPolicy: Allow\n  catchUp: All\n  maxCatchUp: 1000\n"
    "  history: {successful: 100000, failed: 100000}"
)
TEXT = (
    "apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {{name: each}}\nspec:\n  {spec}\n"
    "  steps:\n    - name: mark\n      script: |\n"
    "        echo begun >> {marks}/$RONDEL_SCHEDULED_TIME\n"
    "        sleep 0.9\n        echo x >> {marks}/$RONDEL_SCHEDULED_TIME\n"
)
LIFE_SECONDS = 8.0
SLOTS = "SELECT scheduled_time, phase FROM run WHERE trigger = 'Schedule'"
SCHEMA = "SELECT version_num FROM alembic_version"
SECOND = timedelta(seconds=1)


def week(folder: Path, scale: Scale) -> list[Row]:
    watched, marks = folder / "watched", folder / "marks"
    for one in (watched, marks):
        one.mkdir(parents=True)
    (watched / "each.yaml").write_text(TEXT.format(spec=EACH_SECOND, marks=marks))
    configure(folder, runs=20)
    ends = Counter[str]()
    with cost() as spent:
        last, daemon = lives(folder, scale.ends, ends)
        try:
            daemon.until(lambda: settled(daemon, last), "all that was due has ended", pause=0.01)
            rows = [(datetime.fromisoformat(slot), phase) for slot, phase in daemon.ask(SLOTS)]
        finally:
            daemon.stop()
    phases = judged(rows, marks, last)
    told = ", ".join(f"{name} {count}" for name, count in sorted({**ends, **phases}.items()))
    return [
        Row(
            operation="week",
            figure=f"slots answered once ({told})",
            rondel=len(rows),
            unit="slots",
            wall=spent.wall,
            cpu=spent.cpu,
        )
    ]


def configure(folder: Path, *, runs: int) -> None:
    """Write the configuration anew, whole at every moment."""
    draft = folder / "rondel.new"
    draft.write_text(
        f"maxParallel: {{runs: {runs}}}\nsources:\n- {{name: w, kind: Directory, path: watched}}\n"
    )
    draft.rename(folder / "rondel.yaml")


def start(folder: Path) -> Serving:
    daemon = Serving(folder, "--config", str(folder / "rondel.yaml"))
    daemon.ready()
    return daemon


def lives(folder: Path, count: int, ends: Counter[str]) -> tuple[datetime, Serving]:
    """Let a daemon live, and end in turn in each way; return the last's begin, and it."""
    daemon = start(folder)
    for end in itertools.islice(itertools.cycle(ENDS), count):
        time.sleep(LIFE_SECONDS)
        daemon = ENDS[end](folder, daemon)
        ends[end] += 1
    return datetime.now(UTC).replace(microsecond=0), daemon


def stopped(folder: Path, daemon: Serving) -> Serving:
    daemon.stop()
    return start(folder)


def drained(folder: Path, daemon: Serving) -> Serving:
    """Nothing runs any more when it is stopped, and nothing new has begun."""
    words = [*RONDEL, "drain", "--wait", "--state-dir", str(daemon.state)]
    subprocess.run(words, env=environment(), cwd=folder, check=True, capture_output=True)
    running = daemon.count("SELECT count(*) FROM run WHERE phase = 'Running'")
    must(running == 0, f"{running} runs are running after a drain")
    return stopped(folder, daemon)


def reloaded(folder: Path, daemon: Serving) -> Serving:
    """It lives on, with another configuration."""
    before = daemon.told("reloaded")
    configure(folder, runs=20 + (before + 1) % 2)
    os.kill(daemon.pid, signal.SIGHUP)
    daemon.until(lambda: daemon.told("reloaded") > before, "reloaded")
    return daemon


def upgraded(folder: Path, daemon: Serving) -> Serving:
    """A newer Rondel finds an older store, with runs in flight."""
    daemon.kill()
    set_back(daemon.state / "rondel.db")
    must(daemon.ask(SCHEMA) == [(BEFORE,)], "the store is older")
    newer = start(folder)
    must(newer.ask(SCHEMA) == [(HEAD,)], "the store was not upgraded")
    return newer


def killed(folder: Path, daemon: Serving) -> Serving:
    daemon.kill()
    return start(folder)


ENDS = {one.__name__: one for one in (stopped, drained, reloaded, upgraded, killed)}


def settled(daemon: Serving, last: datetime) -> bool:
    """Tell whether every slot up to `last` has its run, and all of those have ended."""
    found = [(datetime.fromisoformat(slot), phase) for slot, phase in daemon.ask(SLOTS)]
    due = [phase for slot, phase in found if slot <= last]
    newest = max((slot for slot, _ in found), default=last - SECOND)
    return newest >= last and not {"Pending", "Running"} & {*due}


def judged(rows: list[tuple[datetime, str]], marks: Path, last: datetime) -> Counter[str]:
    """Compare the rows with every slot there was; return how they ended."""
    answered = Counter(slot for slot, _ in rows)
    first, newest = min(answered), max(answered)
    whole = int((newest - first).total_seconds()) + 1
    every = Counter(first + SECOND * n for n in range(whole))
    must(answered == every, f"{len(every - answered)} lost, {len(answered - every)} doubled")
    made = {path.name: path.read_text().split() for path in marks.iterdir()}
    odd = {name: lines for name, lines in made.items() if lines not in (["begun"], ["begun", "x"])}
    must(not odd, f"a step ran twice for one slot: {odd}")
    due = [(slot, phase) for slot, phase in rows if slot <= last]
    succeeded = [slot for slot, phase in due if phase == "Succeeded"]
    must(
        all("x" in made.get(f"{slot:%Y-%m-%dT%H:%M:%SZ}", ()) for slot in succeeded),
        "a success left no mark",
    )
    return Counter(phase for _, phase in due)
