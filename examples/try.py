"""`make run`: the controller in the foreground on a scratch Git repository of examples."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent
SCRATCH = EXAMPLES.parent / "scratch"
REPOSITORY = SCRATCH / "workflows"
STATE = SCRATCH / "state"
BIN = Path(sys.executable).parent
CONFIGURATION = f"""\
# Made by `make run`; yours to change while it runs.
stateDir: {STATE}
executor: local
sources:
  - {{name: workflows, kind: Git, url: "file://{REPOSITORY}", ref: {{branch: main}}, interval: 30s}}
"""
TAKEN = {  # where each example goes in the repository; inputs are read from its root
    "minimal/hello.yaml": "hello.yaml",
    "schedule/heartbeat.yaml": "heartbeat.yaml",
    "retry/flaky.yaml": "flaky.yaml",
    "dag/report.yaml": "report.yaml",
    "dag/data/users.csv": "data/users.csv",
    "dag/data/orders.csv": "data/orders.csv",
}


def git(*words: str) -> None:
    subprocess.run(["git", "-C", str(REPOSITORY), *words], check=True, stdout=subprocess.DEVNULL)


def make_repository() -> None:
    """A real repository with one commit; a second `make run` goes on with what is there."""
    for taken, place in TAKEN.items():
        target = REPOSITORY / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(EXAMPLES / taken, target)
    git("init", "--quiet", "--initial-branch=main")
    git("config", "user.name", "You")
    git("config", "user.email", "you@example.com")
    git("add", ".")
    git("commit", "--quiet", "--message", "First workflows")


def introduce() -> None:
    rondel = os.path.relpath(BIN / "rondel")
    print(
        f"""\
Rondel, on a repository of its own; Ctrl-C ends it.

  workflows   {os.path.relpath(REPOSITORY)} (a Git repository, branch main)
  state       {os.path.relpath(STATE)}
  executor    local: steps are processes of this host, isolated from nothing

In another terminal:

  export RONDEL_STATE_DIR={STATE}
  {rondel} get runs
  {rondel} logs -f hello
  {rondel} describe workflow report
"""
    )
    print("What will run next:\n", flush=True)
    subprocess.run(
        [BIN / "rondel", "schedule", "--root", REPOSITORY, REPOSITORY, "--count", "3"], check=False
    )
    print(flush=True)


def main() -> None:
    if not (REPOSITORY / ".git").is_dir():
        make_repository()
    configuration = SCRATCH / "rondel.yaml"
    configuration.write_text(CONFIGURATION)
    introduce()
    os.chdir(EXAMPLES.parent)
    os.execv(  # noqa: S606 - this very program goes on as the controller
        BIN / "rondel", ["rondel", "serve", "--config", str(configuration)]
    )


if __name__ == "__main__":
    main()
