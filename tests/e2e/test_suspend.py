"""Suspending by people and by failures, and slots that have nothing new to do, in a controller."""

import getpass
import json
import re
from datetime import UTC, datetime

import httpx

from controller.model.run import Phase
from controller.serve.address import socket_path
from tests.e2e.controller_process import ON_CHANGE, ControllerProcess, manifest
from tests.source_places import Repository

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


IN_GIT = "  suspend: true\n"


def asked(controller, path, **body):
    transport = httpx.HTTPTransport(uds=str(socket_path(controller.state)))
    with httpx.Client(transport=transport, base_url="http://rondel/api/v1") as client:
        return client.post(path, json=body)


def test_git_and_a_command_suspend_apart_from_each_other_and_both_are_shown(tmp_path, rondel):
    repository = Repository(tmp_path / "ops")
    repository.commit(one_yaml=manifest("one", "true", SECONDLY % ""))
    controller = ControllerProcess(tmp_path, "--source", str(repository.folder)).start()

    def by(*who):
        return lambda: tuple(shown(rondel)["suspendedBy"]) == who

    def commit(**files):
        repository.commit(**files)
        assert rondel("reconcile", "ops", "--wait").returncode == 0

    try:
        controller.until(lambda: succeeded(controller), "a slot has run")
        rondel("suspend", "one", "--reason", "the warehouse moves")
        controller.until(by("Command"), "the command suspends it")
        assert shown(rondel)["suspension"]["by"] == getpass.getuser()

        # A commit lifts nothing of it.
        commit(one_yaml=manifest("one", "echo new", SECONDLY % ""))
        assert by("Command")()
        commit(one_yaml=manifest("one", "echo new", SECONDLY % "" + IN_GIT))
        controller.until(by("Declaration", "Command"), "both suspend it")
        (told,) = [one for one in shown(rondel)["conditions"] if one["type"] == "Suspended"]
        assert told["reason"] == "DeclarationAndCommand"
        for words in (
            rondel("describe", "workflow", "one").stdout,
            rondel("get", "workflows").stdout,
            rondel("schedule").stderr,
        ):
            assert "one.yaml says `suspend: true`" in words
            assert "the warehouse moves" in words
        moment = datetime.now(UTC).replace(microsecond=0).isoformat()
        controller.until(
            lambda: (
                "Suspended" in (said := rondel("explain", "one", "--at", moment).stdout)
                and "the warehouse moves" in said
                and "one.yaml says" in said
            ),
            "explain tells of both",
        )

        # The command lifts what the command did, and says what remains.
        said = rondel("resume", "one").stdout
        assert said == "workflow ops/one stays suspended: its manifest says `suspend: true`\n"
        controller.until(by("Declaration"), "Git suspends it still")
        assert rondel("resume", "one").returncode == 1, "nothing of the command is left"

        # And the other way round.
        rondel("suspend", "one")
        controller.until(by("Declaration", "Command"), "both suspend it")
        commit(one_yaml=manifest("one", "echo new", SECONDLY % ""))
        controller.until(by("Command"), "the commit lifts what Git did")
        before = len(controller.runs())
        assert rondel("resume", "one").stdout == "workflow ops/one is resumed\n"
        controller.until(by(), "nobody suspends it")
        controller.until(lambda: len(controller.runs()) > before, "slots run again")
        reasons = [one.reason for one in controller.look(lambda reader: reader.events())]
        wanted = {"Suspended", "SuspensionChanged", "Resumed"}
        assert [one for one in reasons if one in wanted] == [
            "Suspended", *["SuspensionChanged"] * 4, "Resumed"
        ]  # fmt: skip
    finally:
        controller.stop()


def test_what_is_suspended_until_a_time_resumes_by_itself_but_for_git(controller, folder, rondel):
    (folder / "one.yaml").write_text(manifest("one", "true", SECONDLY % ""))
    (folder / "two.yaml").write_text(manifest("two", "true", IN_GIT))
    controller.start()
    for name in ("one", "two"):
        rondel("suspend", name, "--until", "1s")
    controller.until(lambda: shown(rondel, "two")["suspendedBy"] == ["Declaration"], "Git is left")
    controller.until(lambda: not shown(rondel, "one")["suspended"], "it is resumed")
    events = controller.look(lambda reader: reader.events(workflow="one"))
    told = {one.reason: one for one in events if one.reason in {"Suspended", "Resumed"}}
    (until,) = re.findall(r"until (\S+Z)", told["Suspended"].message)
    assert told["Resumed"].at >= datetime.fromisoformat(until)


def test_a_source_is_suspended_by_its_configuration_and_by_a_command_apart(tmp_path, rondel):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "one.yaml").write_text(manifest("one"))
    config = tmp_path / "rondel.yaml"
    source = {"name": "w", "kind": "Directory", "path": "w", "suspend": True}
    config.write_text(json.dumps({"sources": [source]}))
    controller = ControllerProcess(tmp_path, "--config", str(config)).start()

    def by():
        return json.loads(rondel("get", "source", "w", "-o", "json").stdout)["suspendedBy"]

    try:
        assert by() == ["Declaration"]
        assert rondel("resume", "w").returncode == 1
        rondel("suspend", "source/w", "--until", "1s", "--reason", "freeze")
        assert by() in (["Declaration", "Command"], ["Declaration"])
        controller.until(lambda: by() == ["Declaration"], "its time is over")
        rondel("suspend", "w", "--reason", "freeze")
        words = rondel("describe", "source", "w").stdout
        assert "the configuration says `suspend: true`; and by" in words
        assert "freeze" in words
        said = rondel("resume", "w").stdout
        assert said == "source w stays suspended: the configuration says `suspend: true`\n"
        assert by() == ["Declaration"]
        assert controller.runs() == []
    finally:
        controller.stop()


def test_who_suspends_is_told_by_the_connection(controller, folder, rondel):
    (folder / "one.yaml").write_text(manifest("one"))
    controller.start()
    controller.until(lambda: controller.events("listening"), "its door is open")
    path = "/sources/w/workflows/one"
    assert asked(controller, f"{path}/suspend", by="somebody else").status_code == 422
    answer = asked(controller, f"{path}/suspend", reason="freeze").json()
    assert answer["suspension"]["by"] == getpass.getuser()
    assert (answer["suspension"]["reason"], answer["still"]) == ("freeze", None)
