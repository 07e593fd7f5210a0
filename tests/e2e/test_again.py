"""`rondel retry` and `rondel rerun`: what was recorded, once more."""

import json

import pytest

from controller.model.run import Phase, Trigger
from tests.e2e.controller_process import ControllerProcess, manifest

HEAD = "apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {name: w}\nspec:\n"
FLOW = HEAD + (
    "  params: [{name: p, default: x}]\n"
    "  steps:\n"
    "    - name: a\n"
    "      script: 'echo a >> MARKS/ran; echo $$ > n'\n"
    "      outputs: {n: {path: n, type: integer}}\n"
    "      artifacts: [{name: n, path: n}]\n"
    "    - name: b\n"
    "      env: {N: '${{ steps.a.outputs.n }}'}\n"
    "      mounts: [{artifact: a.n, path: got}]\n"
    "      script: 'echo b >> MARKS/ran; test \"$(cat got)\" = $N; test -e MARKS/mended'\n"
    "    - {name: c, needs: [b], script: 'echo c >> MARKS/ran'}\n"
    "  onFailure: [{name: sorry, script: 'echo sorry >> MARKS/ran'}]\n"
    "  finally: [{name: z, script: 'echo z >> MARKS/ran'}]\n"
)


@pytest.fixture
def folder(tmp_path, folder):
    (tmp_path / "marks").mkdir()
    return folder


@pytest.fixture
def write(folder):
    def put(text):
        (folder / "w.yaml").write_text(text.replace("MARKS", str(folder.parent / "marks")))

    return put


def marks(folder):
    return (folder.parent / "marks" / "ran").read_text().split()


def shown(rondel, run):
    return json.loads(rondel("get", "run", run, "-o", "json").stdout)


def failed_run(controller, rondel):
    controller.start()
    assert rondel("run", "w", "--wait").returncode == 1
    return controller.runs(workflow="w")[0].id


def test_retry_goes_on_from_what_failed_under_the_same_id(controller, folder, write, rondel):
    write(FLOW)
    run = failed_run(controller, rondel)
    assert marks(folder) == ["a", "b", "sorry", "z"]
    (folder.parent / "marks" / "mended").touch()
    told = rondel("retry", run, "--wait", "-o", "json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout) == {"id": run}
    assert marks(folder) == ["a", "b", "sorry", "z", "b", "c", "z"]
    after = shown(rondel, run)
    assert (after["phase"], after["reason"]) == ("Succeeded", "")
    tried = {step["name"]: (step["phase"], step["attempts"]) for step in after["steps"]}
    assert tried == {
        "a": ("Succeeded", 1),
        "b": ("Succeeded", 2),
        "c": ("Succeeded", 1),
        "sorry": ("Skipped", 1),
        "z": ("Succeeded", 2),
    }
    refused = rondel("retry", run)
    assert refused.returncode == 1
    assert f"rondel rerun {run}" in refused.stderr


def test_rerun_is_a_new_run_as_recorded_also_when_its_manifest_is_gone(
    controller, folder, write, rondel
):
    write(FLOW.replace("default: x", "default: y"))
    (folder.parent / "marks" / "mended").touch()
    controller.start()
    assert rondel("run", "w", "-p", "p=given", "--wait").returncode == 0
    first = controller.runs(workflow="w")[0]
    (folder / "other.yaml").write_text(manifest("other"))
    (folder / "w.yaml").unlink()
    controller.until(lambda: controller.look(lambda r: r.workflow("w", "w").retired), "it retires")
    told = rondel("rerun", first.id, "--wait")
    assert told.returncode == 0, told.stderr
    again = controller.runs(workflow="w")[0]
    assert (again.trigger, again.rerun_of, dict(again.params)) == (
        Trigger.RERUN,
        first.id,
        {"p": "given"},
    )
    assert again.logical_time == first.logical_time
    assert marks(folder) == ["a", "b", "c", "z"] * 2
    assert rondel("rerun", first.id, "--from", "b", "--wait").returncode == 0
    assert marks(folder)[8:] == ["b", "c", "z"]
    steps = {one["name"]: one for one in shown(rondel, controller.runs()[0].id)["steps"]}
    before = {one["name"]: one for one in shown(rondel, first.id)["steps"]}
    assert (steps["a"]["reason"], steps["a"]["attempts"]) == ("Reused", 0)
    assert steps["a"]["outputs"] != before["a"]["outputs"] or before["a"]["outputs"]["n"]
    assert rondel("rerun", first.id, "--from", "nope").returncode == 2
    assert "has left its source" in rondel("rerun", first.id, "--latest").stderr


def test_rerun_reads_the_inputs_that_the_run_had(controller, folder, write, rondel, tmp_path):
    (folder / "data").mkdir()
    (folder / "data" / "f").write_text("old")
    write(
        HEAD + "  inputs: [{name: d, path: data}]\n"
        "  steps: [{name: a, mounts: [{input: d, path: d}], script: 'cat d/f >> MARKS/ran; echo >> MARKS/ran'}]\n"
    )
    controller.start()
    assert rondel("run", "w", "--wait").returncode == 0
    run = controller.runs()[0].id
    digest = controller.look(lambda r: r.workflow("w", "w")).inputs
    (folder / "data" / "f").write_text("new")
    controller.until(
        lambda: controller.look(lambda r: r.workflow("w", "w")).inputs != digest, "it is seen"
    )
    assert rondel("rerun", run, "--wait").returncode == 0
    assert marks(folder) == ["old", "old"]
    told = rondel("rerun", run, "--latest", "--wait")
    assert told.returncode == 0
    assert "the spec is what it was" in told.stderr
    assert "input d: was sha256:" in told.stderr
    assert marks(folder) == ["old", "old", "new"]


def test_an_input_too_large_to_keep_refuses_the_rerun(tmp_path, folder, write, rondel):
    (tmp_path / "c.yaml").write_text("inputs: {maxSize: 2}\n")
    controller = ControllerProcess(
        tmp_path, "--source", str(folder), "--config", str(tmp_path / "c.yaml")
    )
    (folder / "data").write_text("large")
    write(HEAD + "  inputs: [{name: d, path: data}]\n  steps: [{name: a, script: 'true'}]\n")
    controller.start()
    assert rondel("run", "w", "--wait").returncode == 0
    refused = rondel("rerun", controller.runs()[0].id)
    assert refused.returncode == 1
    assert "its inputs are not kept: d" in refused.stderr
    assert "inputs.maxSize" in refused.stderr
    controller.stop()


def test_latest_shows_what_differs_and_runs_that(controller, folder, write, rondel):
    write(HEAD + "  steps: [{name: a, script: 'echo first >> MARKS/ran'}]\n")
    controller.start()
    assert rondel("run", "w", "--wait").returncode == 0
    run = controller.runs()[0].id
    write(HEAD + "  steps: [{name: a, script: 'echo second >> MARKS/ran'}]\n")
    controller.until(
        lambda: controller.look(lambda r: r.workflow("w", "w")).generation == 2, "it is loaded"
    )
    told = rondel("rerun", run, "--latest", "--wait")
    assert told.returncode == 0, told.stderr
    assert "generation 1 then, 2 now" in told.stderr
    lines = [line for line in told.stderr.splitlines() if line[:1] in "+-" and "echo" in line]
    assert [line[0] for line in lines] == ["-", "+"]
    assert marks(folder) == ["first", "second"]


def test_retry_runs_only_the_combinations_that_failed(controller, folder, write, rondel):
    write(
        HEAD
        + "  steps:\n    - name: m\n      matrix: {x: [1, 2, 3]}\n      env: {X: '${{ matrix.x }}'}\n"
        "      script: 'echo $X >> MARKS/ran; [ $X != 2 ] || test -e MARKS/mended'\n"
    )
    run = failed_run(controller, rondel)
    (folder.parent / "marks" / "mended").touch()
    assert rondel("retry", run, "--wait").returncode == 0
    assert sorted(marks(folder)) == ["1", "2", "2", "3"]
    assert [step["attempts"] for step in shown(rondel, run)["steps"]] == [1, 2, 1]


def test_a_retried_run_that_loses_its_controller_is_settled_once(controller, folder, write, rondel):
    write(
        HEAD + "  steps:\n    - {name: a, script: 'echo a >> MARKS/ran'}\n"
        "    - {name: b, needs: [a], script: 'echo b >> MARKS/ran; test -e MARKS/mended; sleep 60'}\n"
        "    - {name: c, needs: [b], script: 'echo c >> MARKS/ran'}\n"
    )
    run = failed_run(controller, rondel)
    (folder.parent / "marks" / "mended").touch()
    assert rondel("retry", run).returncode == 0
    controller.until(lambda: marks(folder) == ["a", "b", "b"], "it runs again")
    controller.kill()
    controller.start()
    controller.until(
        lambda: controller.look(lambda r: r.run(run)).phase is Phase.INTERRUPTED, "it is settled"
    )
    phases = {step["name"]: step["phase"] for step in shown(rondel, run)["steps"]}
    assert phases == {"a": "Succeeded", "b": "Interrupted", "c": "Skipped"}
    assert marks(folder) == ["a", "b", "b"]


def test_what_goes_on_is_neither_retried_nor_run_again(controller, folder, write, rondel):
    write(HEAD + "  steps: [{name: a, script: 'touch MARKS/ran; sleep 30'}]\n")
    controller.start()
    rondel("run", "w")
    run = controller.runs()[0].id
    controller.until((folder.parent / "marks" / "ran").exists, "it runs")
    for words in (("retry", run), ("rerun", run)):
        refused = rondel(*words)
        assert refused.returncode == 1
        assert "it is Running" in refused.stderr
    rondel("cancel", run, "--now")
    assert "there is no run" in rondel("retry", "nope-1").stderr
