"""A workflow that another one's end starts, in a real controller."""

import json
import signal

import pytest

from controller.model.run import Phase, Trigger
from tests.e2e.controller_process import ControllerProcess, manifest

FIRST = """\
apiVersion: rondel/v1alpha1
kind: Workflow
metadata: {name: first}
spec:
  steps:
    - name: a
      script: echo 7 > rows.txt
      outputs: {rows: {path: rows.txt, type: integer}}
  outputs: {rows: "${{ steps.a.outputs.rows }}"}
"""
SECOND = """\
apiVersion: rondel/v1alpha1
kind: Workflow
metadata: {name: second}
spec:
  params: [{name: rows, type: integer}]
  triggers: [{workflow: first, params: {rows: "${{ upstream.outputs.rows }}"}}]
  steps: [{name: a, script: "true"}]
"""
AFTER_FIRST = "  triggers: [{workflow: first}]\n"


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "w"
    made.mkdir()
    (made / "first.yaml").write_text(FIRST)
    return made


@pytest.fixture
def controller(tmp_path, folder):
    made = ControllerProcess(tmp_path, "--source", str(folder))
    yield made
    if made.process is not None:
        made.stop()


def test_an_upstreams_end_starts_one_run_with_its_outputs_also_after_a_kill(
    controller, folder, rondel
):
    (folder / "second.yaml").write_text(SECOND)
    controller.start()
    rondel("run", "first", "--wait")
    (one,) = controller.until(lambda: done(controller, 1), "the run of second")
    assert (one.trigger, one.params) == (Trigger.UPSTREAM, {"rows": 7})
    rondel("run", "first", "--wait")
    controller.kill()  # before, in, or after the making of the second run
    controller.start()
    controller.until(lambda: done(controller, 2), "the run after the kill")
    assert len(controller.runs(workflow="second")) == 2


def test_an_output_of_the_wrong_type_ends_that_run_as_an_error_and_stops_nothing_else(
    controller, folder, rondel
):
    (folder / "first.yaml").write_text(
        FIRST.replace("echo 7", "echo many").replace(", type: integer", "")
    )
    (folder / "second.yaml").write_text(SECOND)
    (folder / "third.yaml").write_text(manifest("third", spec=AFTER_FIRST))
    controller.start()
    for times in (1, 2):
        assert rondel("run", "first", "--wait").returncode == 0
        controller.until(lambda n=times: done(controller, n, "third"), "the other one runs")
        wrong = controller.until(
            lambda n=times: done(controller, n, "second", Phase.ERROR), "its run is an error"
        )
    assert [one.reason for one in wrong] == ["InvalidParams"] * 2
    assert all("rows" in one.message for one in wrong)
    (folder / "first.yaml").write_text(FIRST)  # mended: the same trigger goes on
    controller.until(lambda: shown(rondel, "first")["observedGeneration"] == 2, "it is loaded")
    assert rondel("run", "first", "--wait").returncode == 0
    (one,) = controller.until(lambda: done(controller, 1), "the run of second")
    assert one.params == {"rows": 7}


def test_of_the_ends_while_suspended_the_newest_runs_once_at_resume(controller, folder, rondel):
    by = SECOND.replace("name: rows, type: integer", "name: by")
    by = by.replace('rows: "${{ upstream.outputs.rows }}"', 'by: "${{ upstream.run }}"')
    (folder / "second.yaml").write_text(by)
    (folder / "third.yaml").write_text(manifest("third", spec=AFTER_FIRST))
    controller.start()
    assert rondel("suspend", "second").returncode == 0
    ids = [rondel("run", "first", "--wait").stdout.strip() for _ in range(3)]
    controller.until(lambda: ids[-1] in started_by(controller, "third"), "all ends are seen")
    assert controller.runs(workflow="second") == []
    controller.kill()  # what stays open is kept
    controller.start()
    assert rondel("resume", "second").returncode == 0
    controller.until(lambda: done(controller, 1), "the run at resume")
    last = rondel("run", "first", "--wait").stdout.strip()
    runs = controller.until(lambda: done(controller, 2), "the next end")
    assert sorted(one.params["by"] for one in runs) == sorted([ids[-1], last])
    assert len(controller.runs(workflow="second")) == 2, "the older ends started none"


def test_a_workflow_of_another_source_triggers_only_when_that_source_exports(tmp_path, rondel):
    for source, name, spec in (
        ("a", "first", ""),
        ("b", "second", "  triggers: [{workflow: a/first}]\n"),
    ):
        (tmp_path / source).mkdir()
        (tmp_path / source / f"{name}.yaml").write_text(manifest(name, spec=spec))
    config = tmp_path / "rondel.yaml"
    text = "sources:\n" + "".join(
        f"  - {{name: {name}, kind: Directory, path: {name}}}\n" for name in "ab"
    )
    config.write_text(text)
    controller = ControllerProcess(tmp_path, "--config", str(config)).start()
    try:
        told = controller.until(lambda: fault(rondel), "it is judged")
        assert "the source of 'a/first' exports nothing" in told
        assert "`exports: true`" in told
        assert rondel("run", "first", "--wait").returncode == 0
        assert controller.runs(workflow="second") == []
        config.write_text(text.replace("path: a", "path: a, exports: true"))
        assert controller.process is not None
        controller.process.send_signal(signal.SIGHUP)
        controller.until(lambda: not fault(rondel), "the fault is gone")
        made = rondel("run", "first", "--wait")
        (one,) = controller.until(lambda: done(controller, 1), "the run of second")
        assert one.identity.split(":")[1] == made.stdout.strip(), "of the end since it was valid"
    finally:
        controller.stop()


def shown(rondel, name):
    return json.loads(rondel("get", "workflow", name, "-o", "json").stdout or "{}")


def fault(rondel):
    conditions = shown(rondel, "second").get("conditions", ())
    return next((one["message"] for one in conditions if "Invalid" in one["reason"]), "")


def started_by(controller, workflow):
    """Return the upstream's runs whose ends started runs that are over."""
    runs = controller.runs(workflow=workflow)
    return {one.identity.split(":")[1] for one in runs if one.phase.terminal}


def done(controller, count, workflow="second", phase=Phase.SUCCEEDED):
    runs = controller.runs(workflow=workflow, phases={phase})
    return runs if len(runs) >= count else None


def test_describe_says_which_upstream_is_not_there(controller, folder, rondel):
    waits = "  triggers: [{workflow: first}, {workflow: gone}]\n"
    (folder / "a.yaml").write_text(manifest("first"))
    (folder / "b.yaml").write_text(manifest("second", "true", waits))
    controller.start()
    told = rondel("describe", "workflow", "second").stdout
    assert "an end of first in Succeeded\n" in told
    assert "an end of gone in Succeeded (there is none)\n" in told
