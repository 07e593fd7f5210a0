"""Suspending by people and by failures, and slots that have nothing new to do, in a controller."""

import json

from controller.model.run import Phase
from tests.e2e.controller_process import ON_CHANGE, manifest

SECONDLY = '  schedules: [{name: s, cron: "* * * * * *"%s}]\n'


def shown(rondel, name="one"):
    return json.loads(rondel("get", "workflow", name, "-o", "json").stdout)


def succeeded(controller, count=1, **fields):
    return len(controller.runs(phases={Phase.SUCCEEDED}, **fields)) >= count


def test_a_person_suspends_and_resumes_with_reason_and_end(controller, folder, rondel):
    (folder / "one.yaml").write_text(manifest("one", "true", SECONDLY % ""))
    controller.start()
    controller.until(lambda: succeeded(controller), "a slot has run")
    said = rondel("suspend", "one", "--reason", "the warehouse moves", "--until", "8h")
    assert said.stdout.startswith("workflow w/one is suspended until ")
    controller.until(lambda: shown(rondel)["suspended"], "it is suspended")
    assert shown(rondel)["health"] == "Suspended"
    assert shown(rondel)["suspension"]["reason"] == "the warehouse moves"
    assert "the warehouse moves" in rondel("describe", "workflow", "one").stdout
    assert rondel("run", "one", "--wait").returncode == 0, "a person may still run it"
    controller.kill()
    controller.start()
    before = len(controller.runs(workflow="one"))
    assert shown(rondel)["suspended"], "it survives a restart"
    assert rondel("resume", "one").stdout == "workflow w/one is resumed\n"
    controller.until(lambda: len(controller.runs(workflow="one")) > before, "slots run again")
    reasons = [one.reason for one in controller.look(lambda reader: reader.events())]
    assert (reasons.count("Suspended"), reasons.count("Resumed")) == (1, 1)


def test_an_end_that_is_none_and_a_manifest_that_says_suspend_are_refused(
    controller, folder, rondel
):
    (folder / "one.yaml").write_text(manifest("one", "true", "  suspend: true\n"))
    controller.start()
    for words in ("soon", "2020-01-01T00:00Z", "2099-01-01T00:00"):
        assert rondel("suspend", "one", "--until", words).returncode == 2, words
    said = rondel("resume", "one")
    assert (said.returncode, said.stdout) == (1, "")
    assert "its manifest says `suspend: true`" in said.stderr
    assert rondel("suspend", "nobody").returncode == 2


def test_a_suspended_source_applies_nothing_until_it_is_resumed(controller, folder, rondel):
    (folder / "one.yaml").write_text(manifest("one", "true", ON_CHANGE))
    controller.start()
    controller.until(lambda: succeeded(controller), "it has run")
    assert rondel("suspend", "w", "--reason", "freeze").stdout == "source w is suspended\n"
    (folder / "two.yaml").write_text(manifest("two", "true", ON_CHANGE))
    assert rondel("run", "one", "--wait").returncode == 0, "what is loaded goes on"
    assert controller.runs(workflow="two") == []
    assert json.loads(rondel("get", "source", "w", "-o", "json").stdout)["suspended"] is True
    rondel("resume", "w")
    controller.until(lambda: succeeded(controller, workflow="two"), "the change is applied")


def test_a_suspended_source_keeps_its_limits_and_can_be_run_over_a_restart(
    controller, folder, tmp_path, rondel
):
    gate = tmp_path / "gate"
    for name in "ab":
        spec = "  concurrency: {group: warehouse, limit: 1}\n"
        script = f"until [ -e {gate} ]; do sleep 0.05; done"
        (folder / f"{name}.yaml").write_text(manifest(name, script, spec))
    controller.start()
    rondel("suspend", "w")
    controller.kill()
    controller.start()
    for name in "ab":
        assert rondel("run", name).returncode == 0, "what was loaded can be run"
    controller.until(lambda: controller.runs(phases={Phase.RUNNING}), "one of them runs")
    (waits,) = controller.runs(phases={Phase.PENDING})
    story = rondel("describe", "run", waits.id).stdout
    assert "in the group warehouse (limit 1)" in story
    gate.touch()
    controller.until(lambda: succeeded(controller, 2), "one after the other")
    rondel("resume", "w")
    (folder / "c.yaml").write_text(manifest("c", "true", ON_CHANGE))
    controller.until(lambda: succeeded(controller, workflow="c"), "the change is applied")


def test_schedules_of_a_suspended_source_go_on_over_a_restart_and_no_change_is_seen(
    controller, folder, rondel
):
    (folder / "data.txt").write_text("as it was")
    inputs = "  inputs: [{name: d, path: data.txt}]\n"
    (folder / "reader.yaml").write_text(manifest("reader", "true", ON_CHANGE + inputs))
    (folder / "one.yaml").write_text(manifest("one", "true", SECONDLY % ""))
    controller.start()
    controller.until(lambda: succeeded(controller, workflow="one"), "a slot has run")
    controller.until(lambda: succeeded(controller, workflow="reader"), "the first sighting")
    rondel("suspend", "w")
    controller.kill()
    (folder / "one.yaml").write_text(manifest("one", "false", SECONDLY % ""))
    controller.start()
    slots = len(controller.runs(workflow="one", phases={Phase.SUCCEEDED}))
    controller.until(lambda: succeeded(controller, slots + 2, workflow="one"), "slots run on")
    assert rondel("run", "reader", "--wait").returncode == 0
    assert [run.trigger.value for run in controller.runs(workflow="reader")].count("Change") == 1
    assert shown(rondel, "reader")["health"] == "Healthy"
    assert controller.runs(phases={Phase.FAILED}) == []
    rondel("resume", "w")
    controller.until(lambda: controller.runs(phases={Phase.FAILED}), "the new text is applied")


def test_failures_in_a_row_suspend_it(controller, folder, rondel):
    spec = SECONDLY % "" + "  suspendAfter: {failures: 2}\n"
    (folder / "one.yaml").write_text(manifest("one", "false", spec))
    controller.start()
    controller.until(lambda: shown(rondel)["suspended"], "it has suspended itself")
    assert len(controller.runs(phases={Phase.FAILED})) == 2
    assert "2 runs failed in a row" in shown(rondel)["suspension"]["reason"]


def test_a_slot_that_would_repeat_its_last_success_is_skipped(controller, folder, rondel):
    one = SECONDLY % ", runPolicy: IfChanged"
    (folder / "one.yaml").write_text(manifest("one", "true", one))
    controller.start()
    unchanged = {Phase.SKIPPED}
    controller.until(lambda: len(controller.runs(phases=unchanged)) >= 2, "slots are skipped")
    assert {run.reason for run in controller.runs(phases=unchanged)} == {"Unchanged"}
    assert len(controller.runs(phases={Phase.SUCCEEDED})) == 1
    controller.kill()
    controller.start()
    before = len(controller.runs(phases=unchanged))
    controller.until(lambda: len(controller.runs(phases=unchanged)) > before, "also after a crash")
    assert len(controller.runs(phases={Phase.SUCCEEDED})) == 1
    (folder / "one.yaml").write_text(manifest("one", "echo new", one))
    controller.until(lambda: succeeded(controller, 2), "a new spec runs")
    params = one + "  params: [{name: id, default: '${{ run.id }}'}]\n"
    (folder / "one.yaml").write_text(manifest("one", "echo new", params))
    controller.until(lambda: succeeded(controller, 4), "params that differ run each time")
