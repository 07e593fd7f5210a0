"""`uses`: another workflow of the source as a step, as a run of its own."""

import json
import re

import pytest

from controller.model.run import Phase, Trigger

HEAD = "apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {name: %s}\nspec:\n"
INNER = HEAD % "inner" + (
    "  params: [{name: n, type: integer}, {name: say, default: hello}]\n"
    "  steps:\n"
    "    - name: work\n"
    "      env: {N: '${{ params.n }}', SAY: '${{ params.say }}'}\n"
    "      script: 'echo \"$SAY $N\"; [ $N != 13 ]; echo $((N + 1)) > out'\n"
    "      outputs: {out: {path: out, type: integer}}\n"
    "  outputs: {next: '${{ steps.work.outputs.out }}'}\n"
    "  finally: [{name: tidy, script: 'echo tidied'}]\n"
)
OUTER = HEAD % "outer" + (
    "  params: [{name: n, type: integer, default: 4}]\n"
    "  steps:\n"
    "    - {name: call, uses: {workflow: inner, params: {n: '${{ params.n }}'}}}\n"
    "    - {name: after, env: {GOT: '${{ steps.call.outputs.next }}'}, script: 'echo got $GOT'}\n"
)


@pytest.fixture
def folder(folder):
    (folder / "inner.yaml").write_text(INNER)
    (folder / "outer.yaml").write_text(OUTER)
    return folder


def shown(rondel, run):
    return json.loads(rondel("get", "run", run, "-o", "json").stdout)


def test_its_outputs_are_the_steps_and_it_is_a_run_of_its_own(controller, folder, rondel):
    controller.start()
    assert rondel("run", "outer", "--wait").returncode == 0
    (outer,) = controller.runs(workflow="outer")
    (inner,) = controller.runs(workflow="inner")
    assert (inner.parent, inner.trigger, inner.phase) == (
        outer.id,
        Trigger.MANUAL,
        Phase.SUCCEEDED,
    )
    assert dict(inner.params) == {"n": 4, "say": "hello"}
    assert shown(rondel, inner.id)["parent"] == outer.id
    assert {one["name"]: one["outputs"] for one in shown(rondel, outer.id)["steps"]}["call"] == {
        "next": 5
    }
    told = rondel("describe", "run", outer.id).stdout
    assert f"{inner.id}  Succeeded" in told.partition("Called:")[2]
    told = rondel("describe", "run", inner.id).stdout
    assert re.search(f"^Step of: +{outer.id}$", told, re.MULTILINE)
    assert "after | got 5" in rondel("logs", outer.id).stdout
    assert "work | hello 4" in rondel("logs", inner.id).stdout
    status = json.loads(rondel("get", "workflow", "inner", "-o", "json").stdout)
    assert status["health"] == "Unknown", "a run that is a step says nothing of the workflow"
    refused = rondel("rerun", inner.id)
    assert refused.returncode == 1
    assert f"do it to {outer.id}" in refused.stderr


def test_a_called_workflow_that_fails_fails_its_step(controller, folder, rondel):
    controller.start()
    assert rondel("run", "outer", "-p", "n=13", "--wait").returncode == 1
    (outer,) = controller.runs(workflow="outer")
    (inner,) = controller.runs(workflow="inner")
    steps = {one["name"]: one for one in shown(rondel, outer.id)["steps"]}
    assert (outer.phase, steps["call"]["reason"]) == (Phase.FAILED, "CalledFailed")
    assert inner.id in steps["call"]["error"]
    assert steps["after"]["phase"] == "Skipped"
    assert "tidy | tidied" in rondel("logs", inner.id).stdout


def test_exec_runs_what_it_calls_with_one_step_at_once(folder, rondel):
    (folder / ".git").mkdir()
    (folder / "outer.yaml").write_text(
        OUTER.replace("{name: call, uses", "{name: call, matrix: {i: [1, 2]}, uses").replace(
            "${{ params.n }}", "${{ matrix.i }}"
        )
    )
    (folder / "c.yaml").write_text("maxParallel: {runs: 1, steps: 1}\n")
    words = ("--executor", "local", "--config", str(folder / "c.yaml"))
    told = rondel("exec", str(folder / "outer.yaml"), *words)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "after | got [2, 3]" in told.stdout
    runs = json.loads(rondel("get", "runs", "-o", "json").stdout)
    listed = runs["items"] if isinstance(runs, dict) else runs
    called = [one["id"] for one in listed if one["workflow"] == "inner"]
    assert len(called) == 2
    for run in called:
        assert "work | hello" in rondel("logs", run).stdout
        assert (shown(rondel, run)["executor"], shown(rondel, run)["steps"][0]["attempts"]) == (
            "local",
            1,
        )


def test_cancelled_it_ends_with_its_finally(controller, folder, rondel):
    (folder / "inner.yaml").write_text(INNER.replace('echo "$SAY $N";', "sleep 30;"))
    controller.start()
    assert rondel("run", "outer").returncode == 0
    controller.until(
        lambda: [one for one in controller.runs(workflow="inner") if one.phase is Phase.RUNNING],
        "it runs",
    )
    (outer,) = controller.runs(workflow="outer")
    assert rondel("cancel", outer.id).returncode == 0
    controller.until(
        lambda: controller.look(lambda r: r.run(outer.id)).phase is Phase.CANCELLED, "it ends"
    )
    (inner,) = controller.runs(workflow="inner")
    assert inner.phase is Phase.CANCELLED
    assert "tidy | tidied" in rondel("logs", inner.id).stdout


def test_a_lost_controller_leaves_neither_caller_nor_called_running(controller, folder, rondel):
    (folder / "inner.yaml").write_text(INNER.replace('echo "$SAY $N";', "sleep 30;"))
    controller.start()
    rondel("run", "outer")
    controller.until(
        lambda: [one for one in controller.runs(workflow="inner") if one.phase is Phase.RUNNING],
        "it runs",
    )
    controller.kill()
    controller.start()
    controller.until(
        lambda: {one.phase for one in controller.runs()} == {Phase.INTERRUPTED}, "both are settled"
    )
    assert len(controller.runs()) == 2


def test_circles_and_unknown_names_put_who_calls_at_fault_and_nobody_else(
    controller, folder, rondel
):
    call = "  steps: [{name: a, uses: {workflow: %s}}]\n"
    (folder / "ping.yaml").write_text(HEAD % "ping" + call % "pong")
    (folder / "pong.yaml").write_text(HEAD % "pong" + call % "ping")
    (folder / "lost.yaml").write_text(HEAD % "lost" + call % "later")
    controller.start()
    told = rondel("describe", "source", "w").stdout
    assert "ping -> pong -> ping" in told or "pong -> ping -> pong" in told
    assert "there is no workflow 'later'" in told
    assert rondel("run", "ping").returncode == 2
    assert rondel("run", "lost").returncode == 2
    assert rondel("run", "outer", "--wait").returncode == 0
    (folder / "later.yaml").write_text(INNER.replace("name: inner", "name: later"))
    controller.until(lambda: rondel("run", "lost").returncode == 0, "its callee is there")


def test_a_workflow_whose_callee_goes_away_keeps_its_text_and_says_so(controller, folder, rondel):
    controller.start()
    assert rondel("run", "outer", "--wait").returncode == 0
    (folder / "inner.yaml").unlink()
    controller.until(
        lambda: "there is no workflow 'inner'" in rondel("describe", "workflow", "outer").stdout,
        "the fault is told",
    )
    told = rondel("run", "outer")
    assert told.returncode == 1
    assert "calls 'inner', which is not loaded" in told.stderr


def validated(rondel, *paths):
    found = json.loads(rondel("validate", *paths, "-o", "json").stdout)
    return [(one["line"], one["column"], one["pointer"], one["problem"]) for one in found]


def test_validate_knows_the_params_and_outputs_of_what_is_called(folder, rondel):
    (folder / "outer.yaml").write_text(
        HEAD % "outer"
        + "  steps:\n"
        + "    - name: call\n"
        + "      uses:\n"
        + "        workflow: inner\n"
        + "        params: {sey: x, say: 3}\n"
        + "    - {name: after, env: {GOT: '${{ steps.call.outputs.nxt }}'}, script: x}\n"
    )
    assert validated(rondel, folder / "outer.yaml") == [
        (8, 9, "/spec/steps/0/uses", "the call of 'inner' leaves the param 'n' without a value"),
        (9, 18, "/spec/steps/0/uses/params/sey", "there is no param 'sey'"),
        (9, 31, "/spec/steps/0/uses/params/say", "3 is not a string"),
        (10, 32, "/spec/steps/1/env/GOT", "there is no steps.call.outputs.nxt here"),
    ]
    told = rondel("validate", folder).stdout
    assert "did you mean 'say'?" in told
    assert "did you mean 'steps.call.outputs.next'?" in told
    assert rondel("exec", folder / "outer.yaml").returncode == 2


def test_validate_looks_across_files_for_names_and_circles(folder, rondel):
    assert validated(rondel, folder / "outer.yaml") == []
    call = "  steps: [{name: a, uses: {workflow: %s}}]\n"
    (folder / "ping.yaml").write_text(HEAD % "ping" + call % "pong")
    (folder / "pong.yaml").write_text(HEAD % "pong" + call % "ping")
    ((*_, problem),) = validated(rondel, folder / "ping.yaml")
    assert "workflows use each other: " in problem
    assert len(validated(rondel, folder)) == 2
    (folder / "inner.yaml").unlink()
    ((line, _, pointer, problem),) = validated(rondel, folder / "outer.yaml")
    assert (line, pointer) == (1, "/spec/steps")
    assert problem == "there is no workflow 'inner' in this source"
