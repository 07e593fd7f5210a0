"""A repository of many workflows, each with a folder of its own: what one commit costs the daemon."""

import json
from pathlib import Path

from tests.bench import manifests
from tests.bench.change import lines
from tests.bench.commit import git
from tests.bench.measure import cost, must
from tests.bench.rows import Row
from tests.bench.scale import Scale
from tests.bench.serving import Serving, serving

CHANGED = '"event": "source_loaded"'
APPLIED = "SELECT count(*) FROM source WHERE last_applied_revision LIKE ?"
TIMES = 50  # the kernel counts CPU in steps of 10 ms
INPUT = "inputs: [{name: app, path: apps/%d}]"


def monorepo(folder: Path, scale: Scale) -> list[Row]:
    repository, marks = folder / "repository", folder / "marks"
    write(repository, marks, scale.monorepo)
    floor = floor_of(repository)
    with serving(folder, "--source", str(repository)) as daemon:
        daemon.ready()
        daemon.until(lambda: lines(marks) == ["first"], "the first run")
        own = spent(daemon, repository, scale, "apps/0/main")
        must(len(lines(marks)) == scale.commits + 1, "each commit to its folder ran it once")
        none = spent(daemon, repository, scale, "README")
        must(len(lines(marks)) == scale.commits + 1, "a commit to no folder ran nothing")
        # What a look changed is logged once it is recorded, so a moment after.
        daemon.until(lambda: len(changed(daemon)) >= 2 * scale.commits, "each commit is told of")
        must(changed(daemon) == [*[1] * scale.commits, *[0] * scale.commits], "the others rested")
    return [
        Row(
            operation="monorepo",
            figure=f"CPU of a commit to {what} of {scale.monorepo:,}, mean of {scale.commits}",
            rondel=cpu / scale.commits * 1e3,
            unit="ms",
            floor=floor * 1e3,
            floor_is="git diff-tree",
            wall=wall,
            cpu=cpu,
        )
        for what, (wall, cpu) in {"one folder": own, "none": none}.items()
    ]


def write(repository: Path, marks: Path, count: int) -> None:
    """Commit workflows of which only the first one starts by itself."""
    for number in range(count):
        app = repository / "apps" / str(number)
        app.mkdir(parents=True)
        (app / "main").write_text("first\n")
        starts = "" if number else "\n  triggers: [{onChange: [inputs]}]"
        text = manifests.marking(f"w{number}", f"echo first >> {marks}", INPUT % number + starts)
        (app / "workflow.yaml").write_text(text)
    git(repository, "init", "-q", "-b", "main")
    commit(repository)


def commit(repository: Path) -> str:
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "change")
    return (repository / ".git/refs/heads/main").read_text().strip()


def spent(daemon: Serving, repository: Path, scale: Scale, file: str) -> tuple[float, float]:
    """Return the wall time and CPU seconds of the daemon for so many commits to a file."""
    wall = cpu = 0.0
    for number in range(scale.commits):
        (repository / file).write_text(f"{number}\n")
        runs, before = daemon.told("run_created"), daemon.cpu_of_family()
        with cost() as took:
            head = commit(repository)
            daemon.until(lambda: daemon.count(APPLIED, f"%{head}"), "it is applied")  # noqa: B023 - called at once
            if file != "README":
                daemon.ended(runs + 1)
        wall, cpu = wall + took.wall, cpu + daemon.cpu_of_family() - before
    return wall, cpu


def changed(daemon: Serving) -> list[int]:
    """Return how many workflows each commit made the daemon look at."""
    told = [json.loads(line) for line in daemon.log().splitlines() if CHANGED.encode() in line]
    return [one["changed"] for one in told[1:]]


def floor_of(repository: Path) -> float:
    """Return the CPU seconds of telling two commits apart."""
    (repository / "README").write_text("floor\n")
    commit(repository)
    with cost() as took:
        for _ in range(TIMES):
            git(repository, "diff-tree", "-r", "-z", "HEAD~1", "HEAD")
    return took.cpu / TIMES
