"""Workflows that share a limit, in a real controller."""

import json
import time

import pytest

from controller.model.run import Phase
from tests.e2e.controller_process import ON_CHANGE, ControllerProcess, manifest

GROUP = ON_CHANGE + "  concurrency: {group: warehouse%s}\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "w").mkdir()
    return tmp_path / "w"


@pytest.fixture
def controller(tmp_path, folder):
    made = ControllerProcess(tmp_path, "--source", str(folder))
    yield made
    if made.process is not None:
        made.stop()


def member(name, gate, limit=""):
    return manifest(name, f"until [ -e {gate} ]; do sleep 0.05; done", GROUP % limit)


def active(controller):
    return [run.workflow for run in controller.runs(phases={Phase.RUNNING})]


def test_a_group_of_one_lets_one_run_go_and_the_others_wait_for_it(
    controller, folder, tmp_path, rondel
):
    gate = tmp_path / "gate"
    (folder / "a.yaml").write_text(member("a", gate, ", limit: 1"))
    (folder / "b.yaml").write_text(member("b", gate))
    (folder / "c.yaml").write_text(member("c", gate))
    (folder / "free.yaml").write_text(manifest("free", "true", ON_CHANGE))
    controller.start()
    controller.until(
        lambda: controller.runs(workflow="free", phases={Phase.SUCCEEDED}), "it waits for nobody"
    )
    controller.until(lambda: len(active(controller)) == 1, "one of the group runs")
    (waits, *_) = controller.runs(phases={Phase.PENDING})
    story = rondel("describe", "run", waits.id).stdout
    assert f"in the group warehouse (limit 1), held by {active(controller)[0]}-" in story
    (folder / "a.yaml").write_text(member("a", gate, ", limit: 2"))
    controller.until(lambda: len(active(controller)) == 2, "the limit was raised")
    time.sleep(0.3)
    assert len(active(controller)) == 2
    gate.touch()
    # The edit of `a` is a change: it runs once more.
    controller.until(lambda: len(controller.runs(phases={Phase.SUCCEEDED})) == 5, "all have run")


def test_faults_between_files_keep_the_last_valid_text_and_are_told_by_validate(
    controller, folder, tmp_path, rondel
):
    (folder / "a.yaml").write_text(manifest("a", "true", GROUP % ", limit: 1"))
    (folder / "b.yaml").write_text(manifest("b", "true", GROUP % ""))
    controller.start()
    controller.until(lambda: len(controller.runs(phases={Phase.SUCCEEDED})) == 2, "both have run")
    (folder / "a.yaml").unlink()

    def message(name):
        shown = json.loads(rondel("get", "workflow", name, "-o", "json").stdout)
        return next(one["message"] for one in shown["conditions"] if one["type"] == "Ready")

    controller.until(lambda: "no limit" in message("b"), "its limit went with the other file")
    told = rondel("validate", str(folder / "b.yaml")).stdout
    assert "the group 'warehouse' has no limit" not in told  # nobody knows the configuration's
    (folder / "c.yaml").write_text(manifest("c", "true", GROUP % ", limit: 2"))
    (folder / "d.yaml").write_text(manifest("d", "true", GROUP % ", limit: 3"))
    faults = json.loads(rondel("validate", str(folder / "c.yaml"), "-o", "json").stdout)
    assert [one["pointer"] for one in faults] == ["/spec/concurrency/limit"]
    assert "2 in" in faults[0]["problem"]
    assert "3 in" in faults[0]["problem"]
