"""A commit in a local repository: until the first step's process has made its mark."""

import subprocess
import time
from pathlib import Path

from tests.bench import manifests
from tests.bench.change import lines, percentiles, until_line
from tests.bench.measure import cost, must
from tests.bench.rows import Row
from tests.bench.scale import Scale
from tests.bench.serving import serving


def commit(folder: Path, scale: Scale) -> list[Row]:
    repository, bare, marks = folder / "repository", folder / "bare.git", folder / "marks"
    repository.mkdir(parents=True)
    git(repository, "init", "-q", "-b", "main")

    def commit_number(number: int) -> float:
        """Commit; return the wall time of the ref's change."""
        text = manifests.marking("w", f"echo {number} >> {marks}")
        (repository / "w.yaml").write_text(text)
        git(repository, "add", ".")
        git(repository, "commit", "-qm", f"number {number}")
        return (repository / ".git/refs/heads/main").stat().st_mtime

    commit_number(0)
    git(folder, "clone", "-q", "--bare", repository.as_uri(), str(bare))
    took: list[float] = []
    floors: list[float] = []
    with serving(folder, "--source", str(repository)) as daemon:
        daemon.ready()
        daemon.until(lambda: lines(marks) == ["0"], "the first run")
        before, began = daemon.cpu_of_family(), time.perf_counter()
        for number in range(1, scale.commits + 1):
            time.sleep(0.3)
            moved = time.perf_counter() - (time.time() - commit_number(number))
            took.append(until_line(marks, number, moved))
            daemon.ended(number + 1)
            with cost() as spent:
                git(bare, "fetch", "-q", "origin", "+refs/heads/*:refs/heads/*")
            floors.append(spent.wall)
        wall, cpu = time.perf_counter() - began, daemon.cpu_of_family() - before
    expected = [str(number) for number in range(scale.commits + 1)]
    must(lines(marks) == expected, "a commit was missed or seen twice")
    return [
        Row(
            operation="commit",
            figure=f"{name} of {scale.commits}, ref moved to the step's mark",
            rondel=pick(took) * 1e3,
            unit="ms",
            floor=pick(floors) * 1e3,
            floor_is="git fetch of one commit",
            wall=wall,
            cpu=cpu,
            target=target,
        )
        for name, pick, target, _ in percentiles("100 ms", "-", "-")
    ]


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=Bench", "-c", "user.email=bench@example.com")
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)
