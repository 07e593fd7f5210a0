"""A run a second, on a daemon that is stopped and killed in turn: no slot lost, none doubled."""

import itertools
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.bench.measure import cost, must
from tests.bench.rows import Row
from tests.bench.scale import Scale
from tests.bench.serving import Serving

EACH_SECOND = (
    'schedules: [{name: each, cron: "* * * * * *"}]\n'
    "  concurrencyPolicy: Allow\n  catchUp: All\n  maxCatchUp: 1000\n"
    "  history: {successful: 100000, failed: 100000}"
)
TEXT = (
    "apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {{name: each}}\nspec:\n  {spec}\n"
    "  steps:\n    - name: mark\n      script: |\n"
    "        sleep 0.3\n        echo x >> {marks}/$RONDEL_SCHEDULED_TIME\n"
)
LIFE_SECONDS = 8.0
SLOTS = "SELECT scheduled_time, phase FROM run WHERE trigger = 'Schedule'"
SECOND = timedelta(seconds=1)


def week(folder: Path, scale: Scale) -> list[Row]:
    watched, marks = folder / "watched", folder / "marks"
    for one in (watched, marks):
        one.mkdir(parents=True)
    (watched / "each.yaml").write_text(TEXT.format(spec=EACH_SECOND, marks=marks))
    ends = Counter[str]()
    with cost() as spent:
        last, daemon = lives(folder, watched, scale.ends, ends)
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


def lives(folder: Path, watched: Path, count: int, ends: Counter[str]) -> tuple[datetime, Serving]:
    """Let a daemon live and end, stopped or killed in turn; return the last's begin, and it."""
    for end in itertools.islice(itertools.cycle(("stopped", "killed")), count):
        daemon = Serving(folder, "--source", str(watched))
        daemon.ready()
        time.sleep(LIFE_SECONDS)
        daemon.kill() if end == "killed" else daemon.stop()
        ends[end] += 1
    daemon = Serving(folder, "--source", str(watched))
    daemon.ready()
    return datetime.now(UTC).replace(microsecond=0), daemon


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
    made = {path.name: path.read_text().count("x") for path in marks.iterdir()}
    must(set(made.values()) == {1}, "a step ran twice for one slot")
    due = [(slot, phase) for slot, phase in rows if slot <= last]
    succeeded = [slot for slot, phase in due if phase == "Succeeded"]
    must(all(f"{slot:%Y-%m-%dT%H:%M:%SZ}" in made for slot in succeeded), "a success left no mark")
    return Counter(phase for _, phase in due)
