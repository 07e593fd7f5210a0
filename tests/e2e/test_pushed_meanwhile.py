"""What somebody pushes while work goes on, or while nobody looks."""

import json

import pytest

from controller.model.condition import find
from controller.model.run import Phase
from tests.e2e.controller_process import ON_CHANGE, ControllerProcess, manifest
from tests.source_places import Repository, serving

READS = ON_CHANGE + "  inputs: [{name: data, path: data}]\n"


def reading(gate):
    script = f"cat in/n; while [ ! -e {gate} ]; do sleep 0.02; done; cat in/n"
    return manifest("one", script, READS) + "      mounts: [{input: data, path: in}]\n"


@pytest.fixture
def place(tmp_path):
    """A repository that is followed over HTTP, and its controller."""
    repository = Repository(tmp_path / "repository")
    with serving(tmp_path) as server:
        source = {
            "name": "ops",
            "kind": "Git",
            "url": server.url("repository/.git"),
            "ref": {"branch": "main"},
            "interval": "1s",
            "trusted": True,
        }
        config = {"executor": "local", "sources": [source]}
        (tmp_path / "rondel.yaml").write_text(json.dumps(config))
        controller = ControllerProcess(tmp_path, "--config", str(tmp_path / "rondel.yaml"))
        yield repository, controller
        if controller.process is not None and controller.process.poll() is None:
            controller.stop()


def applied(controller, commit):
    def holds():
        status = controller.look(lambda reader: reader.source("ops"))
        return status.last_applied_revision == f"main@sha1:{commit}"

    controller.until(holds, f"{commit} is applied")


def test_a_force_push_leaves_the_run_that_is_under_way_its_own_commit(place, rondel, tmp_path):
    repository, controller = place
    gate = tmp_path / "gate"
    repository.commit(note="before")
    first = repository.commit(one_yaml=reading(gate), data__n="first\n")
    controller.start()
    controller.until(lambda: controller.runs(phases=[Phase.RUNNING]), "it runs")
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    forced = repository.commit(one_yaml=reading(gate), data__n="forced\n")
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("gc", "--quiet", "--prune=now")
    applied(controller, forced)
    gate.touch()
    controller.until(
        lambda: len(controller.runs(phases=[Phase.SUCCEEDED])) == 2, "both have come to an end"
    )
    told = {
        run.revision: rondel("logs", run.id).stdout.count(word)
        for run, word in zip(reversed(controller.runs()), ("first", "forced"), strict=True)
    }
    assert told == {f"main@sha1:{first}": 2, f"main@sha1:{forced}": 2}
    again = next(run for run in controller.runs() if run.revision.endswith(first))
    assert rondel("rerun", again.id).returncode == 0
    controller.until(
        lambda: len(controller.runs(phases=[Phase.SUCCEEDED])) == 3, "it can be run again"
    )


def test_a_branch_that_goes_while_its_source_is_suspended_is_told_when_it_is_resumed(place, rondel):
    repository, controller = place
    repository.commit(one_yaml=manifest("one"))
    controller.start()

    def reason():
        status = controller.look(lambda reader: reader.source("ops"))
        ready = find(status.conditions, "Ready")
        return ready.reason if ready is not None else ""

    assert rondel("suspend", "ops").returncode == 0
    repository.git("checkout", "--quiet", "-b", "other")
    repository.git("branch", "--quiet", "-D", "main")
    assert rondel("run", "one", "--wait").returncode == 0, "what was loaded can be run"
    assert reason() == "Applied", "nobody has looked"
    assert rondel("resume", "ops").returncode == 0
    controller.until(lambda: reason() == "RefNotFound", "it is told")
    assert rondel("run", "one", "--wait").returncode == 0, "it works on"
    repository.git("branch", "--quiet", "main")
    controller.until(lambda: reason() == "Applied", "it is back")
