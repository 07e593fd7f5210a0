"""Every example is run, by the command that its reader would use."""

import json
from pathlib import Path

import pytest

from controller.model.run import Phase
from tests.e2e.controller_process import ControllerProcess

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
    "example_workflow.yml": "processed 3 rows",
    "iris.yaml": "published a model",
    "resize.yaml": "compute | 360",
    "gallery.yaml": "The heights are [180, 360, 720]",
    "collect.yaml": "found 3 rows",
    "publish.yaml": "publishing 0 rows",
}
ONLY_DAGGER = {"example_pipeline.yml"}  # a function of a module; validated and rendered here
AGENTS = EXAMPLES.parent / "config" / "rondel.yaml"


def config_of(path):
    beside = path.parent / "rondel.yaml"
    above = path.parent.parent / "rondel.yaml"
    found = next((one for one in (beside, above) if one.is_file()), None)
    found = AGENTS if path.parent == EXAMPLES else found
    return ("--config", found) if found else ()


@pytest.mark.parametrize(
    "path", [one for one in MANIFESTS if one.name not in ONLY_DAGGER], ids=lambda path: path.name
)
def test_the_example_runs(path, rondel):
    folder = path.parent.parent if path.parent.name == "workflows" else path.parent
    done = rondel(
        *("exec", path, "--root", folder, "--executor", "local", *config_of(path)),
        DEPLOY_TOKEN="a-token-of-its-own",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert SAYS[path.name] in done.stdout
    assert "a-token-of-its-own" not in done.stdout


def test_what_the_one_collects_the_other_publishes(tmp_path, rondel):
    controller = ControllerProcess(tmp_path, "--source", str(EXAMPLES / "triggers")).start()
    try:
        made = rondel("run", "collect", "--wait")
        assert made.returncode == 0, made.stderr
        (run,) = controller.until(
            lambda: controller.runs(workflow="publish", phases={Phase.SUCCEEDED}), "it follows"
        )
        assert "publishing 3 rows" in rondel("logs", run.id).stdout
        shown = json.loads(rondel("get", "run", run.id, "-o", "json").stdout)
        assert (shown["trigger"], shown["cause"]) == ("Upstream", {"run": made.stdout.strip()})
        told = rondel("describe", "run", run.id).stdout
        assert f"Upstream (run {made.stdout.strip()})" in told
        told = rondel("describe", "workflow", "publish").stdout
        assert "Triggers:\n  an end of collect in Succeeded\n" in told
        assert "Next:" not in told
        told = rondel("describe", "workflow", "collect").stdout
        assert "Triggers:" not in told, "it has a schedule alone"
        assert "Next:\n" in told
    finally:
        controller.stop()


def test_every_example_has_its_test():
    assert {path.name for path in MANIFESTS} == set(SAYS) | ONLY_DAGGER


@pytest.mark.parametrize("name", sorted(ONLY_DAGGER))
def test_an_example_for_dagger_only_is_valid_and_refused_by_the_other_executor(name, rondel):
    path = EXAMPLES / name
    done = rondel("render", path)
    assert done.returncode == 0, done.stderr
    assert "kind: Workflow" in done.stdout
    assert rondel("graph", path).returncode == 0
    done = rondel("exec", path, "--executor", "local")
    assert done.returncode != 0
    assert "dagger" in done.stdout + done.stderr


def test_the_model_is_learned_once_and_again_only_where_it_differs(rondel):
    path = EXAMPLES / "ml" / "iris.yaml"

    def steps(*more):
        words = ("exec", path, "--root", path.parent, "--executor", "local", "-o", "json")
        done = rondel(*words, *more)
        assert done.returncode == 0, done.stderr
        return {one["name"]: one for one in json.loads(done.stdout)["steps"]}

    first = steps()
    assert first["evaluate"]["outputs"]["accuracy"] >= 0.9
    assert {name: one["cached"] for name, one in steps().items()} == {
        "prepare": True,
        "train": True,
        "evaluate": True,
        "publish": False,
    }
    shorter = steps("-p", "rounds=20")
    assert shorter["prepare"]["cached"]
    assert not shorter["train"]["cached"]
    assert shorter["train"]["outputs"]["loss"] > first["train"]["outputs"]["loss"]
    assert steps("-p", "wanted=1.0")["publish"]["phase"] == "Skipped"


def test_every_example_is_valid(rondel):
    done = rondel("validate", EXAMPLES)
    assert done.returncode == 0, done.stdout
    assert "no faults" in done.stdout
