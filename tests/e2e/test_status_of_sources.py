"""What a source says of itself: history, inventory, sync apart from health; and waiting for it."""

import json

import pytest

from controller.model.condition import Status, find
from tests.e2e.controller_process import ControllerProcess, manifest
from tests.source_places import Repository


@pytest.fixture
def repository(tmp_path):
    made = Repository(tmp_path / "ops")
    made.commit(one_yaml=manifest("one"), two_yaml=manifest("two"))
    return made


@pytest.fixture
def controller(tmp_path, repository):
    configure(tmp_path, repository)
    made = ControllerProcess(tmp_path, "--config", str(tmp_path / "rondel.yaml"))
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop()


def configure(place, repository, **more):
    ref = {"url": repository.url, "ref": {"branch": "main"}}
    ops = {"name": "ops", "kind": "Git", "trusted": True, "prune": False} | ref | more
    (place / "rondel.yaml").write_text(json.dumps({"executor": "local", "sources": [ops]}))


def shown(rondel, *words):
    done = rondel("get", "source", "ops", "-o", "json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def status(controller):
    return controller.look(lambda reader: reader.source("ops"))


def applied(controller, commit):
    revision = f"main@sha1:{commit}"
    controller.until(lambda: status(controller).last_applied_revision == revision, "it is applied")
    return revision


def test_the_history_has_each_revision_that_was_applied_and_ends_somewhere(
    controller, repository, rondel
):
    controller.start()
    first = status(controller).last_applied_revision
    broken = applied(controller, repository.commit(two_yaml=manifest("two", "true", "  no: 1\n")))
    third = applied(controller, repository.commit(two_yaml=manifest("two")))
    found = shown(rondel)["history"]
    assert [one["revision"] for one in found] == [third, broken, first]
    assert [(one["workflows"], one["faults"]) for one in found] == [(2, 0), (2, 1), (2, 0)]
    assert found[0]["appliedAt"] > found[1]["appliedAt"] > found[2]["appliedAt"]
    commits = [repository.commit(note=str(number)) for number in range(11)]
    applied(controller, commits[-1])
    found = shown(rondel)["history"]
    assert len(found) <= 10
    assert found[0]["revision"] == f"main@sha1:{commits[-1]}"
    told = rondel("describe", "source", "ops").stdout
    assert f"main@sha1:{commits[-1][:10]}" in told.partition("History:")[2].partition(":\n")[0]
    controller.stop()
    controller.start()
    assert [one["revision"] for one in shown(rondel)["history"]] == [
        one["revision"] for one in found
    ], "nothing new was applied"


def test_the_inventory_is_what_the_source_holds_now(controller, repository, rondel):
    controller.start()
    repository.git("mv", "two.yaml", "moved.yaml")
    repository.git("rm", "-q", "one.yaml")
    applied(controller, repository.commit(three_yaml=manifest("three")))
    controller.until(lambda: len(shown(rondel)["inventory"]) == 3, "the third is there")
    controller.until(
        lambda: (
            {one["name"]: one["orphaned"] for one in shown(rondel)["inventory"]}
            == {"one": True, "two": False, "three": False}
        ),
        "one has no manifest any more",
    )
    held = {one["name"]: one for one in shown(rondel)["inventory"]}
    assert (held["two"]["file"], held["two"]["generation"]) == ("moved.yaml", 1)
    assert (held["one"]["sync"], held["two"]["sync"]) == ("OutOfSync", "Synced")
    told = rondel("describe", "source", "ops").stdout.partition("Inventory:")[2]
    assert "OutOfSync (orphaned)" in told
    assert "moved.yaml" in told
    listed = json.loads(rondel("get", "sources", "-o", "json").stdout)
    assert "inventory" not in listed[0], "a list stays short"


def judged(controller):
    """Return sync, health, and the reason why it isn't ready."""
    view = status(controller)
    ready = find(view.conditions, "Ready")
    reason = ready.reason if ready is not None and ready.status is not Status.TRUE else ""
    return str(view.sync), str(view.health), reason


def test_sync_and_health_are_told_apart(controller, repository, rondel):
    controller.start()
    assert judged(controller) == ("Synced", "Healthy", "")
    repository.commit(two_yaml=manifest("two", "true", "  no: 1\n"))
    partly = ("OutOfSync", "Degraded", "PartiallyApplied")
    controller.until(lambda: judged(controller) == partly, "one manifest is faulty")
    repository.commit(two_yaml=manifest("two"))
    controller.until(lambda: judged(controller) == ("Synced", "Healthy", ""), "it is mended")
    rondel("suspend", "ops")
    controller.until(lambda: shown(rondel)["health"] == "Suspended", "it is suspended")
    assert shown(rondel)["sync"] == "Synced"
    assert "Health:        Suspended" in rondel("describe", "source", "ops").stdout
    rondel("resume", "ops")
    controller.until(lambda: shown(rondel)["health"] == "Healthy", "it is resumed")
    repository.git("branch", "-m", "main", "other")
    missing = ("Unknown", "Missing", "RefNotFound")
    controller.until(lambda: judged(controller) == missing, "its branch is gone")
    last = status(controller).last_applied_revision
    assert last, "what was applied works on"
    repository.git("branch", "-m", "other", "main")
    controller.until(lambda: judged(controller) == ("Synced", "Healthy", ""), "it is back")
    assert status(controller).last_applied_revision == last


def test_a_commit_that_is_refused_was_attempted_and_not_applied(
    controller, repository, rondel, tmp_path
):
    configure(tmp_path, repository, atomic=True)
    controller.start()
    before = status(controller).last_applied_revision
    faulty = repository.commit(two_yaml=manifest("two", "true", "  no: 1\n"))
    refused = ("OutOfSync", "Degraded", "NotApplied")
    controller.until(lambda: judged(controller) == refused, "it isn't applied")
    view = shown(rondel)
    assert view["lastAttemptedRevision"] == f"main@sha1:{faulty}"
    assert view["lastAppliedRevision"] == before
    assert [one["revision"] for one in view["history"]] == [before]


def test_waiting_for_a_source(controller, repository, rondel):
    controller.start()
    done = rondel("wait", "source/ops", "--for", "Ready")
    assert (done.returncode, done.stdout) == (0, "source/ops: ready\n")
    unknown = rondel("wait", "source/opps")
    assert unknown.returncode == 2
    assert "there is no source 'opps'; did you mean 'ops'?" in unknown.stderr
    repository.commit(two_yaml=manifest("two", "true", "  no: 1\n"))
    controller.until(lambda: judged(controller)[2] == "PartiallyApplied", "it is at fault")
    late = rondel("wait", "source/ops", "--timeout", "300ms")
    assert late.returncode == 124
    assert "source/ops: not ready: PartiallyApplied: 1 fault: two.yaml:" in late.stderr
    assert late.stderr.endswith(", after 300ms\n")
    assert rondel("wait", "source/ops", "--for", "Finished").returncode == 2


def test_waiting_for_a_workflow(controller, repository, rondel):
    controller.start()
    assert rondel("wait", "workflow/one").returncode == 0
    assert rondel("wait", "workflow/ops/one", "--for", "Finished").stdout == (
        "workflow/ops/one: finished\n"
    )
    repository.commit(two_yaml=manifest("two", "true", "  no: 1\n"))
    controller.until(lambda: judged(controller)[2] == "PartiallyApplied", "it is at fault")
    late = rondel("wait", "workflow/two", "--timeout", "300ms")
    assert late.returncode == 124
    assert "workflow/two: not ready: InvalidManifest: two.yaml:5" in late.stderr
    unknown = rondel("wait", "workflow/onne")
    assert unknown.returncode == 2
    assert "did you mean 'one'?" in unknown.stderr


def test_waiting_without_a_store(rondel, tmp_path):
    done = rondel("wait", "source/ops", "--state-dir", tmp_path / "nowhere")
    assert done.returncode == 4
    assert "there is no store here" in done.stderr
