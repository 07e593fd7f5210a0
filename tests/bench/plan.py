"""`rondel plan` in a repository of many workflows, one of them changed."""

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
from tests.bench.serving import RONDEL, serving

SIDES = ("HEAD~1", "HEAD")


def plan(folder: Path, scale: Scale) -> list[Row]:
    count = min(scale.manifests, 1_000)  # of the promise: under a second for a thousand
    repository = folder / "repository"
    paths = manifests.write_many(repository, count)
    git(repository, "init", "-q", "-b", "main")
    commit(repository)
    with serving(folder, "--source", str(repository)) as daemon:
        daemon.ready()
        recorded = "SELECT count(*) FROM workflow WHERE spec_digest <> ''"
        daemon.until(lambda: daemon.count(recorded) == count, "all is loaded")
        state = daemon.state
    changed = paths[count // 2]
    changed.write_text(manifests.big(changed.stem, script="false"))
    commit(repository)
    nothing = folder / "nothing"  # no store: nothing is looked up there
    sides = ("--base", SIDES[0], "--head", SIDES[1], "--state-dir", str(nothing))
    ways = {"two commits": sides, "what is loaded": ("--state-dir", str(state))}
    return [
        measured(repository, scale, changed.stem, f"{what}, one changed of {count:,}", words)
        for what, words in ways.items()
    ]


def measured(
    repository: Path, scale: Scale, changed: str, figure: str, words: tuple[str, ...]
) -> Row:
    took, floors, whole = [], [], Cost()
    for _ in range(scale.rounds):
        floors.append(floor(repository))
        with cost() as spent:
            told = said(*RONDEL, "plan", "--source", str(repository), *words, "-o", "json")
        shown = json.loads(told)
        works = [one["name"] for one in shown["workflows"] if one["change"] != "None"]
        must(works == [changed], "the change was found, and nothing else")
        took.append(spent.wall)
        whole += spent
    return Row(
        operation="plan",
        figure=figure,
        rondel=median(took),
        unit="s",
        floor=median(floors),
        floor_is="git diff --name-only, python -c pass",
        wall=whole.wall / len(took),
        cpu=whole.cpu / len(took),
        target="1 s",
    )


def floor(folder: Path) -> float:
    with cost() as spent:
        said("git", "-C", str(folder), "diff", "--name-only", *SIDES)
        said(sys.executable, "-c", "pass")
    return spent.wall


def said(*words: str) -> bytes:
    return subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout
