"""SIGHUP: another configuration is taken over while runs go on, whole or not at all."""

import json
import signal

import httpx
import pytest

from controller.model.run import Phase
from tests.e2e.controller_process import ON_CHANGE, ControllerProcess, manifest


class Place:
    """A configuration, its folders, and the controller that reads it."""

    def __init__(self, root):
        self.root = root
        self.file = root / "rondel.yaml"
        self.gate = root / "open"
        self.controller = ControllerProcess(root, "--config", str(self.file))

    def write(self, *sources, more=""):
        """Configure these sources, each a folder beside the file or (folder, more of it)."""
        lines = []
        for one in sources:
            name, rest = (one, "") if isinstance(one, str) else one
            (self.root / name).mkdir(exist_ok=True)
            lines.append(f"  - {{name: {name}, kind: Directory, path: {name}{rest}}}\n")
        self.file.write_text("sources:\n" + "".join(lines) + more)

    def declare(self, source, name, script="true", spec=ON_CHANGE):
        (self.root / source).mkdir(exist_ok=True)
        (self.root / source / f"{name}.yaml").write_text(manifest(name, script, spec))

    def hold(self):
        return f"while ! [ -e {self.gate} ]; do sleep 0.05; done"

    def reload(self, event="reloaded"):
        """Have the configuration read anew; return the log line that tells of it."""
        before = len(self.controller.events(event))
        assert self.controller.process is not None
        self.controller.process.send_signal(signal.SIGHUP)
        self.controller.until(lambda: len(self.controller.events(event)) > before, event)
        return self.controller.events(event)[-1]

    def phases(self, workflow):
        return [run.phase for run in self.controller.runs(workflow=workflow)]

    def has_run(self, workflow, times=1):
        self.controller.until(
            lambda: self.phases(workflow) == [Phase.SUCCEEDED] * times, f"{workflow} has run"
        )

    def get(self, address):
        self.controller.until(lambda: self.controller.events("listening"), "it listens")
        path = str(self.controller.state / "api" / "rondel.sock")
        transport = httpx.HTTPTransport(uds=path)
        with httpx.Client(transport=transport, base_url="http://rondel") as http:
            return http.get(address)

    def readyz(self):
        answer = self.get("/readyz")
        return answer.status_code, answer.json()["checks"].get("configuration")


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.gate.touch()
    if made.controller.process is not None:
        assert made.controller.stop() == 0


def sources(rondel):
    return [one["name"] for one in json.loads(rondel("get", "sources", "-o", "json").stdout)]


def test_a_source_that_is_added_runs_and_one_that_is_removed_retires(place, rondel):
    place.declare("a", "one")
    place.declare("b", "two")
    place.write("a")
    place.controller.start()
    place.has_run("one")
    place.write("a", "b")
    told = place.reload()
    assert (told["added"], told["removed"], told["changed"]) == (["b"], [], [])
    place.has_run("two")
    place.write("b")
    assert place.reload()["removed"] == ["a"]
    assert sources(rondel) == ["b"]
    workflows = place.controller.look(lambda reader: reader.workflows(retired=True))
    assert {one.name: one.retired for one in workflows} == {"one": True, "two": False}
    events = place.controller.look(lambda reader: reader.events(source="a"))
    reasons = [one.reason for one in events]
    assert (reasons.count("WorkflowRetired"), reasons.count("SourceDropped")) == (1, 1)
    place.declare("a", "later")
    place.write("a", "b")
    place.reload()
    place.has_run("later")
    assert place.phases("one") == [Phase.SUCCEEDED], "coming back is no change"
    assert len(place.phases("two")) == 1, "what stayed was not touched"


def test_a_source_that_is_removed_is_measured_no_more(place):
    place.write("a")
    place.controller.start()
    assert place.get("/metrics").status_code == 200
    place.write("a", "b")
    place.reload()
    place.controller.until(lambda: 'source="b"' in place.get("/metrics").text, "it is measured")
    place.write("a")
    place.reload()
    assert 'source="b"' not in place.get("/metrics").text


def test_a_broken_configuration_keeps_the_old_one_and_says_so(place):
    place.declare("a", "one")
    place.write("a")
    place.controller.start()
    place.has_run("one")
    good = place.file.read_text()
    place.write("b", more="maxParalel: {runs: 1}\n")
    told = place.reload("reload_failed")
    assert f"{place.file}:3:1" in told["error"]
    assert "maxParallel" in told["error"], "the remedy names what was meant"
    status, trouble = place.readyz()
    assert status == 200
    assert "the one before is in use" in trouble
    place.declare("a", "still")
    place.has_run("still")
    place.write("a", ("b", ", suspend: true"), more="receivers: {r: {type: github, secret: s}}\n")
    assert "there is no secret 's'" in place.reload("reload_failed")["error"]
    place.file.write_text("sources: []\n")
    assert "nothing to watch" in place.reload("reload_failed")["error"]
    place.file.write_text(good)
    assert place.reload()["changed"] == []
    assert place.readyz() == (200, None)


def test_one_source_that_can_not_be_opened_changes_nothing(place):
    place.declare("b", "two")
    place.write("a")
    place.controller.start()
    place.write("b")
    text = place.file.read_text()
    place.file.write_text(text + "  - {name: c, kind: Git, url: 'https://git.example.com/c.git'}\n")
    assert "trusted" in place.reload("reload_failed")["error"]
    place.write("a", "b")
    assert place.reload()["added"] == ["b"], "it was not there yet, and a still is"
    place.has_run("two")


def test_a_running_run_outlives_whatever_is_reloaded(place):
    place.declare("a", "long", place.hold())
    place.declare("b", "gone", place.hold())
    place.write("a", "b")
    place.controller.start()
    for name in ("long", "gone"):
        place.controller.until(lambda n=name: place.phases(n) == [Phase.RUNNING], f"{name} runs")
    place.write(("a", ", interval: 2m"))
    told = place.reload()
    assert (told["removed"], told["changed"]) == (["b"], ["a"])
    place.gate.touch()
    place.has_run("long")
    place.has_run("gone")
    workflows = place.controller.look(lambda reader: reader.workflows(retired=True))
    assert {one.name: one.retired for one in workflows} == {"long": False, "gone": True}


def test_nothing_starts_by_a_reload_and_a_changed_source_keeps_its_history(place):
    place.declare("a", "one")
    place.write("a")
    place.controller.start()
    place.has_run("one")
    assert place.reload()["changed"] == []
    place.write(("a", ", exports: true"), more="groups: {g: {limit: 2}}\nhistory: {failed: 3}\n")
    loads = len(place.controller.events("source_loaded"))
    told = place.reload()
    assert (told["changed"], told["settings"]) == (["a"], ["groups", "history.failed"])
    place.controller.until(
        lambda: len(place.controller.events("source_loaded")) > loads, "it is read again"
    )
    place.declare("a", "later")
    place.has_run("later")
    assert place.phases("one") == [Phase.SUCCEEDED]
    reasons = [one.reason for one in place.controller.look(lambda r: r.events(workflow="one"))]
    assert "WorkflowRetired" not in reasons


def test_what_leaves_a_source_with_its_new_path_retires(place):
    place.declare("a", "one")
    place.declare("b", "two")
    place.write("a")
    place.controller.start()
    place.has_run("one")
    place.file.write_text("sources:\n  - {name: a, kind: Directory, path: b}\n")
    place.reload()
    place.has_run("two")
    place.controller.until(
        lambda: [one.name for one in place.controller.look(lambda r: r.workflows())] == ["two"],
        "what is not there any more retires",
    )


def test_the_next_run_has_the_new_value_of_a_secret(place, rondel):
    for name in ("old", "new"):
        (place.root / name).write_text(f"{name}-value\n")
    spec = "  secrets: [key]\n"
    script = f"echo $KEY | rev >> {place.root}/seen"
    place.declare("a", "one", script, spec)
    with (place.root / "a" / "one.yaml").open("a") as file:
        file.write("      secrets: [{name: KEY, secret: key}]\n")
    secret = "secrets: {key: {file: %s, sources: [a]}}\n"
    place.write("a", more=secret % (place.root / "old"))
    place.controller.start()
    assert rondel("run", "one", "--wait").returncode == 0
    place.write("a", more=secret % (place.root / "new"))
    told = place.reload()
    assert (told["changed"], told["settings"]) == ([], ["secrets"])
    assert rondel("run", "one", "--wait").returncode == 0
    assert (place.root / "seen").read_text().split() == ["eulav-dlo", "eulav-wen"]


def test_what_needs_a_restart_is_named_and_not_taken_over(place):
    place.write("a")
    place.controller.start()
    place.write("a", more="maxParallel: {runs: 3, steps: 7}\nlogs: {maxSize: 1Mi}\n")
    assert place.reload()["settings"] == ["maxParallel.runs"]
    warned = place.controller.until(
        lambda: place.controller.events("needs_restart"), "a restart is asked for"
    )
    assert warned[-1]["settings"] == ["maxParallel.steps", "logs.maxSize"]


def test_a_file_that_changes_is_read_without_a_signal(place):
    place.declare("b", "two")
    place.write("a")
    place.controller.start()
    place.write("a", "b")
    place.has_run("two")
    assert [one["added"] for one in place.controller.events("reloaded")] == [["b"]]
    place.write("a", more="maxParalel: {runs: 1}\n")
    place.controller.until(lambda: place.controller.events("reload_failed"), "it is refused")
    place.write("a")
    place.controller.until(lambda: len(place.controller.events("reloaded")) > 1, "it is mended")
    assert place.controller.events("reloaded")[-1]["removed"] == ["b"]


def test_a_source_of_the_command_line_stays(place, tmp_path):
    place.declare("w", "one")
    place.declare("a", "two")
    place.write("a")
    place.controller = ControllerProcess(
        tmp_path, "--config", str(place.file), "--source", str(tmp_path / "w")
    )
    place.controller.start()
    place.has_run("one")
    place.write("b")
    told = place.reload()
    assert (told["added"], told["removed"], told["changed"]) == (["b"], ["a"], [])
    place.write("b", "w")
    assert "'w' already" in place.reload("reload_failed")["error"]


def test_a_source_that_was_taken_out_while_no_controller_ran_is_dropped_at_the_start(place, rondel):
    place.declare("a", "one")
    place.write("a", "b")
    place.controller.start()
    place.has_run("one")
    place.controller.stop()
    place.write("b")
    place.controller.start()
    place.controller.until(
        lambda: place.controller.look(lambda reader: reader.source("a")) is None, "it is dropped"
    )
    workflows = place.controller.look(lambda reader: reader.workflows(retired=True))
    assert [(one.name, one.retired) for one in workflows] == [("one", True)]
    assert sources(rondel) == ["b"]
    events = place.controller.look(lambda reader: reader.events(source="a"))
    assert [one.reason for one in events].count("WorkflowRetired") == 1
