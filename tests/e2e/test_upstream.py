"""A workflow that another one's end starts, in a real controller."""

from controller.model.run import Phase, Trigger
from tests.e2e.controller_process import ControllerProcess

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


def test_an_upstreams_end_starts_one_run_with_its_outputs_also_after_a_kill(tmp_path, rondel):
    folder = tmp_path / "w"
    folder.mkdir()
    (folder / "first.yaml").write_text(FIRST)
    (folder / "second.yaml").write_text(SECOND)
    controller = ControllerProcess(tmp_path, "--source", str(folder)).start()
    try:
        rondel("run", "first", "--wait")
        (one,) = controller.until(lambda: done(controller, 1), "the run of second")
        assert (one.trigger, one.params) == (Trigger.UPSTREAM, {"rows": 7})
        rondel("run", "first", "--wait")
        controller.kill()  # before, in, or after the making of the second run
        controller.start()
        controller.until(lambda: done(controller, 2), "the run after the kill")
        assert len(controller.runs(workflow="second")) == 2
    finally:
        controller.stop()


def done(controller, count):
    runs = controller.runs(workflow="second", phases={Phase.SUCCEEDED})
    return runs if len(runs) >= count else None
