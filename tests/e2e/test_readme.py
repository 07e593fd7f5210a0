"""The README's and the quickstart's commands, as a reader types them."""

import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 40.0


def console(page: str, heading: str) -> list[str]:
    """Return the commands of a section's console blocks."""
    section = (ROOT / page).read_text("utf-8").split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def until(holds, what):
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := holds()):
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.1)
    return found


def test_the_readme_from_make_run_to_a_commit_of_ones_own(shell, tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(tmp_path / "bin" / "rondel", tmp_path / ".venv" / "bin" / "rondel")
    python = tmp_path / ".venv" / "bin" / "python"
    python.symlink_to(sys.executable)
    assert "make run" in console("README.md", "Try it")[0]
    assert "examples/try.py" in (ROOT / "Makefile").read_text()
    shell(f"{python} examples/try.py", tmp_path, background=True)
    state = f"export RONDEL_STATE_DIR={tmp_path}/scratch/state; "

    def runs(workflow):
        done = shell(f"{state}rondel get runs --workflow {workflow} -o name", tmp_path)
        return done.stdout.split()

    until(lambda: runs("hello"), "a first run")
    for line in console("README.md", "Try it")[1:]:
        if line.startswith(("sed", "git")):
            done = shell(line, tmp_path)
            assert done.returncode == 0, done.stderr
    until(lambda: len(runs("hello")) == 2, "the run of the commit")
    for line in console("README.md", "Try it")[1:]:
        if line.startswith("rondel"):
            done = shell(state + line, tmp_path)
            assert done.returncode == 0, (line, done.stderr)
            if " logs " in line:
                assert "Hello from my commit" in done.stdout


def test_the_quickstart(shell, tmp_path):
    folder = tmp_path
    for line in (
        *console("docs/quickstart.md", "1. A folder of workflows"),
        *console("docs/quickstart.md", "2. One run, here and now"),
    ):
        if line.startswith("cd "):
            folder /= line.removeprefix("cd ")
            continue
        done = shell(line, folder)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    serve, _, *looks = console("docs/quickstart.md", "3. The controller")
    shell(serve, folder, background=True)
    state = f"export RONDEL_STATE_DIR={folder}/state; "
    until(
        lambda: (
            "Succeeded"
            in shell(f"{state}rondel get runs --workflow hello --source hello", folder).stdout
        ),
        "the first run",
    )
    for line in looks:
        done = shell(state + line, folder)
        assert done.returncode == 0, (line, done.stderr)


def test_the_python_api_as_its_page_shows_it(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "reference" / "python-api.md").read_text("utf-8")
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    fetcher = {
        "container": {"image": "x", "script": "echo '[1, 2]' > rows.json"},
        "outputs": {"rows": {"path": "rows.json", "type": "json"}},
    }
    processor = {
        "container": {"image": "x", "script": "cp $RONDEL_INPUTS got.json"},
        "outputs": {"got": {"path": "got.json", "type": "json"}},
    }
    config = {
        "stateDir": str(tmp_path / "state"),
        "dagger": {"agents": {"data-fetcher": fetcher, "data-processor": processor}},
    }
    code = code.replace("OrchestrationEngine()", "OrchestrationEngine(config)")
    code = code.replace('engine_type="dagger"', 'engine_type="local"')
    names: dict[str, Any] = {"config": config}
    exec(code, names)  # noqa: S102 - the page's own words
    result = names["result"]
    assert result.succeeded, result
    assert result.tasks["process_data"].outputs["got"] == {"operation": "transform", "rows": [1, 2]}
