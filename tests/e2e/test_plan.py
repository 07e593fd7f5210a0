"""`rondel plan`: which work follows from a change, and because of which file."""

import json
import subprocess

import pytest
import yaml

from tests.e2e.controller_process import ON_CHANGE, ControllerProcess, manifest


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "ops"
    (folder / "flows").mkdir(parents=True)
    (folder / "data").mkdir()

    def commit(**files):
        for name, text in files.items():
            path = folder / name.replace("__", "/").replace("_yaml", ".yaml")
            if text is None:
                path.unlink()
            else:
                path.write_text(text)
        identity = ("-c", "user.name=T", "-c", "user.email=t@example.com")
        for words in (("add", "-A"), ("commit", "-qm", "x", "--allow-empty")):
            subprocess.run(["git", "-C", folder, *identity, *words], check=True)

    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    reads = ON_CHANGE + "  inputs: [{name: data, path: data}]\n"
    commit(
        flows__reads_yaml=manifest("reads", "true", reads),
        flows__timed_yaml=manifest("timed", "true", "  schedules: [{cron: '0 3 * * *'}]\n"),
        flows__gone_yaml=manifest("gone"),
        flows__same_yaml=manifest("same", "true", ON_CHANGE),
        data__n="1",
    )
    return folder, commit


def planned(rondel, folder, *words):
    done = rondel("plan", "--source", folder, *words, "-o", "json")
    shown = json.loads(done.stdout)
    return done.returncode, {one["name"]: one for one in shown["workflows"]}, shown["invalid"]


def test_each_change_has_its_action_and_its_cause(repository, rondel):
    folder, commit = repository
    commit(
        data__n="2",
        flows__timed_yaml=manifest("timed", "echo", "  schedules: [{cron: '0 3 * * *'}]\n"),
        flows__gone_yaml=None,
        flows__new_yaml=manifest("new", "true", ON_CHANGE),
    )
    code, found, invalid = planned(rondel, folder, "--base", "HEAD~1", "--head", "HEAD")
    assert (code, invalid) == (0, [])
    assert {name: (one["change"], one["action"]) for name, one in found.items()} == {
        "reads": ("Changed", "Run"),
        "timed": ("Changed", "AtSlot"),
        "gone": ("Removed", "Retire"),
        "new": ("Added", "Run"),
        "same": ("None", "Nothing"),
    }
    (cause,) = found["reads"]["causes"]
    assert (cause["file"], cause["input"]) == ("data/n", "data")
    assert found["timed"]["causes"][0]["file"] == "flows/timed.yaml"


def test_the_files_as_they_are_against_a_revision(repository, rondel):
    folder, _ = repository
    (folder / "data" / "n").write_text("3")
    _, found, _ = planned(rondel, folder, "--base", "HEAD")
    assert [name for name, one in found.items() if one["action"] == "Run"] == ["reads"]


def test_an_invalid_manifest_is_listed_and_follows_nothing(repository, rondel):
    folder, _ = repository
    (folder / "flows" / "same.yaml").write_text(manifest("same", "echo", "  nope: 1\n"))
    code, found, invalid = planned(rondel, folder, "--base", "HEAD")
    assert code == 2
    assert "same" not in found
    assert (invalid[0]["file"], invalid[0]["line"]) == ("flows/same.yaml", 5)


def test_the_exit_code_says_whether_work_follows(repository, rondel):
    folder, commit = repository
    same = rondel("plan", "--source", folder, "--base", "HEAD", "--exit-code")
    assert same.returncode == 0
    commit(data__n="9")
    assert rondel("plan", "--source", folder, "--base", "HEAD~1", "--exit-code").returncode == 3
    assert rondel("plan", "--source", folder, "--base", "no-such").returncode == 2


CALLER = """apiVersion: rondel/v1alpha1
kind: Workflow
metadata: {name: caller}
spec:
  triggers: [{onChange: [spec, inputs]}]
  schedules: [{cron: '0 3 * * *'}]
  steps: [{name: ask, uses: {workflow: same}}]
"""


def test_the_chain_goes_from_the_file_through_the_input_to_the_step(repository, rondel):
    folder, commit = repository
    mounting = manifest("mounts", "true", "  inputs: [{name: data, path: data}]\n")
    commit(flows__mounts_yaml=mounting + "      mounts: [{input: data, path: .}]\n")
    commit(data__n="2")
    _, found, _ = planned(rondel, folder, "--base", "HEAD~1", "--head", "HEAD")
    (cause,) = found["mounts"]["causes"]
    assert (cause["file"], cause["input"], cause["step"]) == ("data/n", "data", "a")


def test_a_called_workflow_that_changed_is_told_of_its_caller_and_runs_it_at_its_slot(
    repository, rondel
):
    folder, commit = repository
    commit(flows__caller_yaml=CALLER)
    commit(flows__same_yaml=manifest("same", "echo", ON_CHANGE))
    _, found, _ = planned(rondel, folder, "--base", "HEAD~1", "--head", "HEAD")
    assert (found["caller"]["change"], found["caller"]["action"]) == ("None", "AtSlot")
    (cause,) = found["caller"]["causes"]
    assert (cause["file"], cause["step"], cause["uses"]) == ("flows/same.yaml", "ask", "same")
    assert [one["step"] for one in found["same"]["causes"]] == [None, "a"]


def test_a_new_workflow_runs_at_first_sight_also_when_only_inputs_start_it(repository, rondel):
    folder, commit = repository
    only = "  triggers: [{onChange: [inputs]}]\n  inputs: [{name: no, path: nothing-there}]\n"
    commit(flows__fresh_yaml=manifest("fresh", "true", only))
    _, found, _ = planned(rondel, folder, "--base", "HEAD~1", "--head", "HEAD")
    assert found["fresh"]["action"] == "Run"


def test_what_else_follows_is_told_under_names_of_its_own(repository, rondel):
    folder, commit = repository
    hourly = "  schedules: [{cron: '0 * * * *'}]\n  secrets: [token]\n"
    commit(flows__timed_yaml=manifest("timed", "true", hourly))
    words = ("plan", "--source", folder, "--base", "HEAD~1", "--head", "HEAD")
    shown = json.loads(rondel(*words, "-o", "json").stdout)
    assert sorted(one["monthly"] for one in shown["schedules"]) == [-30, 720]
    assert [len(one["after"]) for one in shown["schedules"] if one["monthly"] == 720] == [5]
    assert [(one["kind"], one["name"]) for one in shown["widened"]] == [("NewSecret", "token")]
    assert yaml.safe_load(rondel(*words, "-o", "yaml").stdout)["widened"] == shown["widened"]
    text = rondel(*words).stdout
    assert "~ ops/timed: runs at its next slot" in text
    assert "    wider: asks for the secret token" in text


HOSTILE = "a`|<img src=x onerror=y>\n# @all [x](javascript:y)\x1b[2J"


def test_a_hostile_path_is_no_markup_and_moves_no_cursor(repository, rondel):
    folder, _ = repository
    (folder / "data" / HOSTILE.replace("/", "")).write_text("1")
    words = ("plan", "--source", folder, "--base", "HEAD")
    assert "\x1b" not in rondel(*words).stdout
    told = rondel(*words, "-o", "markdown").stdout
    assert told.startswith("**rondel plan** `HEAD` to the files as they are: 1 runs now")
    assert "\x1b" not in told
    for line in told.splitlines():
        assert line.count("`") % 2 == 0
        outside = "".join(line.split("`")[::2])
        for mark in ("<img", "@all", "[x]"):
            assert mark not in outside
    assert not any(line.startswith("# ") for line in told.splitlines())
    assert told.count("<details>") == told.count("</details>") == 1


def test_what_a_controller_runs_is_what_plan_said(repository, rondel, tmp_path):
    folder, commit = repository
    controller = ControllerProcess(tmp_path, "--source", folder.as_uri()).start()
    try:
        controller.until(lambda: ended(controller) == {"reads", "same"}, "the first runs")
        old = {one.id for one in controller.runs()}
        commit(
            data__n="2",
            flows__timed_yaml=manifest("timed", "echo", "  schedules: [{cron: '0 3 1 1 *'}]\n"),
            flows__gone_yaml=None,
            flows__new_yaml=manifest("new", "true", ON_CHANGE),
        )
        _, said, _ = planned(rondel, folder, "--base", "HEAD~1", "--head", "HEAD")
        running = {name for name, one in said.items() if one["action"] == "Run"}
        assert running == {"reads", "new"}
        controller.until(lambda: running <= ended(controller, but=old), "what was said")
        head = f"main@sha1:{revision(folder)}"
        controller.until(
            lambda: (
                {one.name: one for one in controller.look(lambda r: r.workflows())}[
                    "timed"
                ].revision
                == head
            ),
            "the whole commit is loaded",
        )
        assert ended(controller, but=old) == running
        gone = controller.look(lambda reader: reader.workflow("ops", "gone"))
        assert gone.retired
    finally:
        controller.stop()


def ended(controller, but=()):
    return {
        one.workflow for one in controller.runs() if one.id not in but and one.phase == "Succeeded"
    }


def revision(folder):
    told = subprocess.run(
        ["git", "-C", folder, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    )
    return told.stdout.strip()


def test_against_what_is_loaded_a_retired_workflow_is_not_retired_again(
    repository, rondel, tmp_path
):
    folder, commit = repository
    controller = ControllerProcess(tmp_path, "--source", folder.as_uri()).start()
    try:
        controller.until(lambda: ended(controller) == {"reads", "same"}, "the first runs")
        commit(flows__gone_yaml=None)
        controller.until(
            lambda: controller.look(lambda reader: reader.workflow("ops", "gone")).retired,
            "it is retired",
        )
    finally:
        controller.stop()
    image = manifest("same", "true", ON_CHANGE) + "      image: registry.example.com/acme/tool:1\n"
    (folder / "flows" / "same.yaml").write_text(image)
    done = rondel("plan", "--source", folder, "--state-dir", controller.state, "-o", "json")
    shown = json.loads(done.stdout)
    found = {one["name"]: one for one in shown["workflows"]}
    assert "gone" not in found
    assert {name for name, one in found.items() if one["action"] == "Run"} == {"same"}
    assert [one["step"] for one in found["same"]["causes"]] == [None, "a"]
    assert [(one["kind"], one["name"]) for one in shown["widened"]] == [
        ("NewRegistry", "registry.example.com")
    ]


DEFAULTS = """apiVersion: rondel/v1alpha1
kind: Defaults
metadata: {name: here}
spec: {defaults: {image: "registry.example.com/base:%s"}}
"""


def test_what_the_store_has_read_is_not_read_otherwise(repository, rondel, tmp_path):
    """With a store unchanged files come from its parse cache, without one from the files."""
    folder, commit = repository
    below = manifest("below", "true", ON_CHANGE)
    (folder / "flows" / "own").mkdir()
    commit(flows__own__defaults_yaml=DEFAULTS % 1, flows__own__below_yaml=below)
    controller = ControllerProcess(tmp_path, "--source", folder.as_uri()).start()
    try:
        controller.until(lambda: ended(controller) == {"reads", "same", "below"}, "the first runs")
    finally:
        controller.stop()
    flows = folder / "flows"
    (flows / "own" / "defaults.yaml").write_text(DEFAULTS % 2)
    (flows / "same.yaml").write_text(manifest("same", "echo", ON_CHANGE + "  secrets: [token]\n"))
    (flows / "timed.yaml").write_text(
        manifest("timed", "true", "  schedules: [{cron: '@hourly'}]\n")
    )
    (flows / "gone.yaml").unlink()
    (flows / "faulty.yaml").write_text("apiVersion: rondel/v1alpha1\nkind: Nope\n")

    def shown(*words):
        done = rondel("plan", "--source", folder, *words, "-o", "json")
        return json.loads(done.stdout)

    stored = shown("--state-dir", controller.state)
    alone = shown("--state-dir", tmp_path / "nothing", "--base", "HEAD")
    assert {one["name"]: one["action"] for one in stored["workflows"]} == {
        "below": "Run",
        "gone": "Retire",
        "reads": "Nothing",
        "same": "Run",
        "timed": "AtSlot",
    }
    assert stored["images"] == [
        {
            "source": "ops",
            "workflow": "below",
            "place": "a",
            "before": "registry.example.com/base:1",
            "after": "registry.example.com/base:2",
        }
    ]
    for part in ("workflows", "invalid", "images", "widened", "schedules"):
        assert stored[part] == alone[part], part
    assert [one["kind"] for one in stored["widened"]] == ["NewSecret"]
