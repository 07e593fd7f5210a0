"""Every example is run, by the command that its reader would use."""

from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MANIFESTS = sorted(
    path for path in EXAMPLES.rglob("*.y*ml") if "kind: Workflow" in path.read_text()
)
SAYS = {  # what the log of each holds
    "hello.yaml": "Hello from Rondel",
    "report.yaml": "Tables: 3 users, 4 orders",
    "heartbeat.yaml": "trigger Manual",
    "flaky.yaml": "fetch ended as Succeeded",
    "deploy.yaml": "even printed it is not shown: ***",
    "greet.yaml": "Hello from",
    "words.yaml": "There are 12 words",
}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_the_example_runs(path, rondel):
    folder = path.parent.parent if path.parent.name == "workflows" else path.parent
    configuration = folder / "rondel.yaml"
    config = ("--config", configuration) if configuration.is_file() else ()
    done = rondel(
        *("exec", path, "--root", folder, "--executor", "local", *config),
        DEPLOY_TOKEN="a-token-of-its-own",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert SAYS[path.name] in done.stdout
    assert "a-token-of-its-own" not in done.stdout


def test_every_example_has_its_test():
    assert {path.name for path in MANIFESTS} == set(SAYS)


def test_every_example_is_valid(rondel):
    done = rondel("validate", EXAMPLES)
    assert done.returncode == 0, done.stdout
    assert "no faults" in done.stdout
