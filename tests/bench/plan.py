"""`rondel plan` between two commits of many workflows, one of them changed."""

import json
import subprocess
import sys
from pathlib import Path

from tests.bench import manifests
from tests.bench.commit import git
from tests.bench.measure import Cost, cost, must
from tests.bench.monorepo import commit
from tests.bench.rows import Row, median
from tests.bench.scale import Scale
from tests.bench.serving import RONDEL

SIDES = ("HEAD~1", "HEAD")


def plan(folder: Path, scale: Scale) -> list[Row]:
    count = min(scale.manifests, 1_000)  # of the promise: under a second for a thousand
    changed = committed(folder, count)
    took, floors, whole = [], [], Cost()
    for _ in range(scale.rounds):
        floors.append(floor(folder))
        with cost() as spent:
            shown = json.loads(said(*RONDEL, "plan", *compared(folder)))
        works = [one["name"] for one in shown["workflows"] if one["change"] != "None"]
        must(works == [changed], "the change was found, and nothing else")
        took.append(spent.wall)
        whole += spent
    return [
        Row(
            operation="plan",
            figure=f"one changed of {count:,} workflows",
            rondel=median(took),
            unit="s",
            floor=median(floors),
            floor_is="git diff --name-only, python -c pass",
            wall=whole.wall / len(took),
            cpu=whole.cpu / len(took),
            target="1 s",
        )
    ]


def compared(folder: Path) -> tuple[str, ...]:
    base, head = SIDES
    state = str(folder.with_name(f"{folder.name}-state"))  # no store: nothing is looked up there
    sides = ("--base", base, "--head", head)
    return ("--source", str(folder), *sides, "--state-dir", state, "-o", "json")


def committed(folder: Path, count: int) -> str:
    """Commit so many workflows, then a change of one; return the name of that one."""
    paths = manifests.write_many(folder, count)
    git(folder, "init", "-q", "-b", "main")
    commit(folder)
    changed = paths[count // 2]
    changed.write_text(manifests.big(changed.stem, script="false"))
    commit(folder)
    return changed.stem


def floor(folder: Path) -> float:
    with cost() as spent:
        said("git", "-C", str(folder), "diff", "--name-only", *SIDES)
        said(sys.executable, "-c", "pass")
    return spent.wall


def said(*words: str) -> bytes:
    return subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout
