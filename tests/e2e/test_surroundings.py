"""Defaults and agents beside workflows, in a controller that watches them."""

import json

import pytest

from controller.model.run import Phase
from tests.e2e.controller_process import ON_CHANGE, manifest

HEAD = "apiVersion: rondel/v1alpha1\n"
DEFAULTS = HEAD + "kind: Defaults\nmetadata: {name: all}\nspec: {defaults: {env: {WHO: %s}}}\n"
AGENT = HEAD + (
    "kind: Agent\nmetadata: {name: greeter}\nspec:\n"
    "  inputs: {type: object, required: [who], properties: {who: {type: string}}}\n"
    "  container: {image: any, script: 'cp $RONDEL_INPUTS said.json'}\n"
    "  outputs: {said: {path: said.json, type: json}}\n"
)
USER = HEAD + (
    "kind: Workflow\nmetadata: {name: user}\nspec:\n  triggers: [{onChange: [spec]}]\n  steps:\n"
    "    - {name: greet, agent: greeter, inputs: {who: '${{ run.trigger }}'}}\n"
    "    - {name: b, script: 'echo $S', env: {S: '${{ steps.greet.outputs.said.who }}'}}\n"
)


@pytest.fixture
def folder(folder):
    (folder / "team").mkdir()
    return folder


def ran(controller, workflow, count):
    runs = controller.runs(workflow=workflow, phases={Phase.SUCCEEDED})
    return len(runs) >= count


def ready(rondel, name):
    shown = json.loads(rondel("get", "workflow", name, "-o", "json").stdout)
    return next(one for one in shown["conditions"] if one["type"] == "Ready")


def test_an_edit_of_the_defaults_is_a_change_of_every_workflow_below(controller, folder, rondel):
    (folder / "team" / "one.yaml").write_text(manifest("one", "echo $WHO", ON_CHANGE))
    (folder / "other.yaml").write_text(manifest("other", "true", ON_CHANGE))
    (folder / "team" / "all.yaml").write_text(DEFAULTS % "first")
    controller.start()
    controller.until(lambda: ran(controller, "one", 1), "the first run")
    assert rondel("logs", "one").stdout == "a | first\n"
    (folder / "team" / "all.yaml").write_text(DEFAULTS % "second")
    controller.until(lambda: ran(controller, "one", 2), "the second run")
    assert rondel("logs", "one").stdout == "a | second\n"
    assert len(controller.runs(workflow="other")) == 1, "it is not below"


def test_broken_defaults_keep_what_is_below_them_also_across_a_restart(controller, folder, rondel):
    (folder / "team" / "one.yaml").write_text(manifest("one", "echo $WHO", ON_CHANGE))
    (folder / "team" / "all.yaml").write_text(DEFAULTS % "first")
    controller.start()
    controller.until(lambda: ran(controller, "one", 1), "the first run")
    (folder / "team" / "all.yaml").write_text((DEFAULTS % "x").replace("spec:", "sepc:"))
    controller.until(lambda: ready(rondel, "one")["status"] == "False", "the fault is shown")
    for _ in range(2):
        judged = ready(rondel, "one")
        assert judged["reason"] == "DefaultsInvalid"
        assert judged["message"].startswith("team/all.yaml:")
        assert rondel("run", "one", "--wait").returncode == 0
        assert rondel("logs", "one").stdout == "a | first\n", "the last valid spec"
        controller.stop()
        controller.start()
    (folder / "team" / "all.yaml").write_text(DEFAULTS % "mended")
    controller.until(lambda: ready(rondel, "one")["status"] == "True", "it is mended")


def test_an_agent_of_the_source_is_a_step(controller, folder, rondel):
    (folder / "user.yaml").write_text(USER)
    controller.start()
    controller.until(lambda: ready(rondel, "user")["status"] == "False", "no such agent")
    assert "there is no agent 'greeter'" in ready(rondel, "user")["message"]
    (folder / "agents.yaml").write_text(AGENT)
    controller.until(lambda: ran(controller, "user", 1), "its run")
    assert rondel("logs", "user").stdout == "b | Change\n"


def test_commands_without_a_controller_see_what_stands_around(folder, rondel):
    (folder / ".git").mkdir()
    (folder / "user.yaml").write_text(USER)
    (folder / "agents.yaml").write_text(AGENT)
    (folder / "team" / "all.yaml").write_text(DEFAULTS % "first")
    (folder / "team" / "one.yaml").write_text(manifest("one", "echo $WHO"))
    assert rondel("validate", str(folder)).returncode == 0
    shown = rondel("render", str(folder / "team" / "one.yaml")).stdout
    assert "WHO: first" in shown
    for file, line in (("team/one.yaml", "a | first"), ("user.yaml", "b | Manual")):
        told = rondel("exec", str(folder / file), "--executor", "local")
        assert told.returncode == 0, told.stderr
        assert line in told.stdout
    (folder / "user.yaml").write_text(USER.replace("said.who", "sad.who"))
    told = rondel("validate", str(folder / "user.yaml"), "-o", "json")
    assert told.returncode == 2
    assert json.loads(told.stdout)[0].keys() == {
        *("file", "line", "column", "pointer", "problem", "remedy")
    }
