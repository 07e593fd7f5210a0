"""The whole way, as a user goes it: commit a workflow, see it run."""

import json
import subprocess
from datetime import UTC, datetime

from controller.model.run import Phase, Trigger
from tests.e2e.controller_process import ON_CHANGE, ControllerProcess, alive, manifest


def succeeded(controller, workflow, count=1):
    runs = controller.runs(workflow=workflow, phases={Phase.SUCCEEDED})
    return runs if len(runs) >= count else None


def git(folder, *words):
    subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=T", "-c", "user.email=t@example.com", *words],
        check=True,
        capture_output=True,
    )


def test_a_new_manifest_runs_and_an_edit_runs_it_again(controller, folder, rondel):
    (folder / "one.yaml").write_text(manifest("one", "echo first", ON_CHANGE))
    controller.start()
    first = controller.until(lambda: succeeded(controller, "one"), "the first run")[0]
    assert first.trigger is Trigger.CHANGE
    (folder / "one.yaml").write_text(manifest("one", "echo second", ON_CHANGE))
    controller.until(lambda: succeeded(controller, "one", 2), "the second run")
    assert rondel("logs", "one").stdout == "a | second\n"
    assert rondel("get", "workflows", "-o", "name").stdout == "w/one\n"
    shown = json.loads(rondel("get", "workflows", "-o", "json").stdout)[0]
    assert (shown["generation"], shown["observedGeneration"]) == (2, 2)


def test_a_commit_runs_without_waiting_for_the_interval(tmp_path, folder, rondel):
    (folder / "flows").mkdir()
    (folder / "flows" / "one.yaml").write_text(
        manifest(
            "one",
            "cat data/n; echo $RONDEL_REVISION",
            ON_CHANGE
            + """\
  inputs: [{name: data, path: data}]
  defaults: {mounts: [{input: data, path: data}]}
""",
        )
    )
    (folder / "data").mkdir()
    (folder / "data" / "n").write_text("1\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    config = tmp_path / "rondel.yaml"
    config.write_text(
        f"sources: [{{name: ops, kind: Git, url: 'file://{folder}', ref: {{branch: main}},"
        " path: flows, interval: 10m}]\n"
    )
    controller = ControllerProcess(tmp_path, "--config", str(config)).start()
    try:
        controller.until(lambda: succeeded(controller, "one"), "the first run")
        (folder / "data" / "n").write_text("2\n")  # not committed: nothing happens
        git(folder, "commit", "-qam", "second")
        run = controller.until(lambda: succeeded(controller, "one", 2), "the second run")[0]
        head = subprocess.check_output(
            ["git", "-C", folder, "rev-parse", "HEAD"], text=True
        ).strip()
        assert run.revision == f"main@sha1:{head}"
        assert rondel("logs", "one").stdout == f"a | 2\na | main@sha1:{head}\n"
        status = controller.look(lambda reader: reader.workflow("ops", "one"))
        assert (status.generation, status.change) == (1, 2)
    finally:
        controller.stop()


def test_a_broken_manifest_among_ten_good_ones_stops_none_of_them(controller, folder, rondel):
    for number in range(9):
        (folder / f"w{number}.yaml").write_text(manifest(f"w{number}", "true", ON_CHANGE))
    (folder / "bad.yaml").write_text(manifest("bad", "echo good", ON_CHANGE))
    controller.start()
    controller.until(lambda: succeeded(controller, "bad"), "the good text runs")
    (folder / "bad.yaml").write_text(manifest("bad", "echo x", "  retries: 3\n" + ON_CHANGE))
    for number in range(9):
        (folder / f"w{number}.yaml").write_text(manifest(f"w{number}", "echo 2", ON_CHANGE))
    for number in range(9):
        controller.until(lambda n=number: succeeded(controller, f"w{n}", 2), f"w{number} advances")

    def judged():
        shown = json.loads(rondel("get", "workflow", "bad", "-o", "json").stdout)
        ready = next(one for one in shown["conditions"] if one["type"] == "Ready")
        return ready if ready["status"] == "False" else None

    ready = controller.until(judged, "the fault is shown")
    assert ready["reason"] == "InvalidManifest"
    assert ready["message"].startswith("bad.yaml:5:3: /spec/retries: unknown key")
    assert "bad.yaml:5:3" in rondel("get", "workflows").stdout
    assert "PartiallyApplied" in rondel("get", "sources").stdout
    (folder / "bad.yaml").write_text(manifest("bad", "echo mended", ON_CHANGE))
    controller.until(lambda: succeeded(controller, "bad", 2), "the mended text runs")


def test_a_fault_that_outlives_a_restart_keeps_the_last_valid_spec(controller, folder, rondel):
    (folder / "bad.yaml").write_text(manifest("bad", "echo valid", ON_CHANGE))
    controller.start()
    controller.until(lambda: succeeded(controller, "bad"), "the first run")
    controller.stop()
    (folder / "bad.yaml").write_text("kind: [unclosed")
    controller.start()
    assert rondel("run", "bad", "--wait").returncode == 0
    assert rondel("logs", "bad").stdout == "a | valid\n"
    shown = json.loads(rondel("get", "workflow", "bad", "-o", "json").stdout)
    assert (shown["retired"], shown["generation"]) == (False, 1)


def test_a_removed_manifest_retires_and_comes_back_with_its_numbers(controller, folder, rondel):
    text = manifest("one", "true", ON_CHANGE)
    (folder / "one.yaml").write_text(text)
    (folder / "other.yaml").write_text(manifest("other"))
    controller.start()
    controller.until(lambda: succeeded(controller, "one"), "the first run")
    (folder / "one.yaml").unlink()
    controller.until(
        lambda: "w/one" not in rondel("get", "workflows", "-o", "name").stdout, "it retires"
    )
    assert "w/one" in rondel("get", "workflows", "--all", "-o", "name").stdout
    assert "w/one" not in rondel("schedule").stdout
    (folder / "moved.yaml").write_text(text)
    controller.until(
        lambda: "w/one" in rondel("get", "workflows", "-o", "name").stdout, "it is back"
    )
    assert len(controller.runs(workflow="one")) == 1


def test_a_slot_runs_once_in_its_first_second_also_across_a_restart(controller, folder):
    every_second = "  schedules: [{name: tick, cron: '* * * * * *'}]\n"
    (folder / "tick.yaml").write_text(manifest("tick", "true", every_second))
    controller.start()
    controller.until(lambda: len(controller.runs(workflow="tick")) >= 3, "three slots")
    controller.kill()
    controller.start()
    begun = datetime.now(UTC)
    newer = lambda: [r for r in controller.runs(workflow="tick") if r.scheduled_time > begun]  # noqa: E731
    controller.until(lambda: len(newer()) >= 2, "slots after the restart")
    runs = controller.runs(workflow="tick")
    slots = [run.scheduled_time for run in runs]
    assert len(slots) == len(set(slots))
    started = [run for run in runs if run.started_at and run.phase is Phase.SUCCEEDED]
    assert all(run.started_at >= run.scheduled_time for run in started)


def test_kill_9_with_three_running_steps_leaves_nothing_and_settles(controller, folder):
    steps = "".join(
        f"    - {{name: s{n}, script: 'echo up; exec sleep 9{n}123'}}\n" for n in range(3)
    )
    text = (
        manifest("three", "sleep 93123", ON_CHANGE)
        + steps
        + """\
  onFailure:
    - {name: told, script: "true"}
  finally:
    - {name: end, env: {P: "${{ run.phase }}"}, script: 'test "$P" = Interrupted'}
"""
    )
    (folder / "three.yaml").write_text(text)
    controller.start()
    controller.until(lambda: len(alive("sleep\x0090123")) == 1, "the steps run")
    controller.until(lambda: len(alive("sleep\x0093123")) >= 1, "the first one too")
    controller.kill()
    controller.start()
    run = controller.until(
        lambda: [r for r in controller.runs(workflow="three") if r.phase.terminal], "it is settled"
    )[0]
    assert (run.phase, run.reason) == (Phase.INTERRUPTED, "ControllerLost")
    for mark in ("90123", "91123", "92123", "93123"):
        assert alive(f"sleep\x00{mark}") == []
    phases = {one.name: str(one.phase) for one in controller.look(lambda r: r.steps(run.id))}
    assert phases["s0"] == "Interrupted"
    assert (phases["told"], phases["end"]) == ("Succeeded", "Succeeded")
    (folder / "three.yaml").write_text(manifest("three", "true", ON_CHANGE))
    controller.until(lambda: succeeded(controller, "three"), "the next run")


def test_a_second_controller_on_the_directory_is_refused(controller, folder, rondel):
    (folder / "one.yaml").write_text(manifest("one"))
    controller.start()
    second = rondel("serve", "--source", folder, "--executor", "local")
    assert second.returncode == 1
    assert f"process {controller.process.pid}" in second.stderr
    assert second.stderr.count("\n") == 1


def test_exec_works_beside_a_controller(controller, folder, rondel):
    (folder / "one.yaml").write_text(manifest("one", "echo here"))
    controller.start()
    done = rondel("exec", folder / "one.yaml", "--executor", "local", "-o", "json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["phase"], shown["source"]) == ("Succeeded", "exec")
    assert shown["steps"][0]["exitCode"] == 0
    assert [run.source for run in controller.runs(source="exec")] == ["exec"]


def test_runs_are_asked_for_cancelled_and_refused(controller, folder, rondel):
    params = "  params: [{name: n, type: integer, default: 60}]\n"
    text = manifest("nap", "echo up; sleep $N", params).replace(
        "script:", "env: {N: '${{ params.n }}'}\n      script:"
    )
    (folder / "nap.yaml").write_text(text)
    controller.start()
    made = rondel("run", "nap", "-o", "json")
    run_id = json.loads(made.stdout)["id"]
    controller.until(lambda: "up" in rondel("logs", run_id).stdout, "it runs")
    refused = rondel("run", "nap")
    assert refused.returncode == 1
    assert "Forbid" in refused.stderr
    queued = rondel("run", "nap", "-p", "n=0", "--queue").stdout.strip()
    assert rondel("cancel", run_id).returncode == 0
    assert rondel("wait", f"run/{run_id}").returncode == 1
    assert rondel("wait", f"run/{queued}").returncode == 0
    assert "--timeout: " in rondel("wait", f"run/{queued}", "--timeout", "soon").stderr
    assert rondel("run", "nap", "-p", "n=x").returncode == 2
    assert rondel("run", "nope").returncode == 2
    assert rondel("wait", "run/" + run_id, "--for", "Finished").returncode == 1


def test_sigterm_lets_a_run_end(controller, folder):
    (folder / "nap.yaml").write_text(manifest("nap", "sleep 1", ON_CHANGE))
    controller.start()
    controller.until(lambda: controller.runs(phases={Phase.RUNNING}), "it runs")
    assert controller.stop() == 0
    assert [run.phase for run in controller.runs()] == [Phase.SUCCEEDED]


def test_the_api_answers_on_its_socket(controller, folder):
    import httpx

    from controller.serve.address import socket_path

    (folder / "one.yaml").write_text(manifest("one", "echo said", ON_CHANGE))
    controller.start()
    controller.until(lambda: succeeded(controller, "one"), "a run")
    controller.until(lambda: controller.events("listening"), "it listens")
    path = socket_path(controller.state)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://r") as http:
        assert http.get("/healthz").json()["ok"] is True
        assert http.get("/readyz").status_code == 200
        metrics = http.get("/metrics").text
        assert 'rondel_condition{kind="Workflow"' in metrics or "rondel_runs_total" in metrics
        runs = http.get("/api/v1/runs").json()["items"]
        assert [run["workflow"] for run in runs] == ["one"]
        lines = http.get(f"/api/v1/runs/{runs[0]['id']}/logs").text
        assert json.loads(lines)["line"] == "said"
        missing = http.get("/api/v1/runs/nope")
        assert missing.status_code == 404
        assert missing.headers["content-type"] == "application/problem+json"
        assert (
            http.post("/api/v1/sources/w/workflows/one/runs", json={"nope": 1}).status_code == 422
        )
        same = {"Idempotency-Key": "k1"}
        first = http.post("/api/v1/sources/w/workflows/one/runs", json={}, headers=same).json()
        again = http.post("/api/v1/sources/w/workflows/one/runs", json={}, headers=same).json()
        assert first["id"] == again["id"]
        assert "/api/v1/runs" in http.get("/openapi.json").json()["paths"]


def test_a_secret_that_is_not_for_the_source_is_a_fault_when_it_is_loaded(tmp_path, folder, rondel):
    uses = "  secrets: [token]\n" + ON_CHANGE
    (folder / "one.yaml").write_text(manifest("one", "true", uses))
    config = tmp_path / "rondel.yaml"
    config.write_text("secrets: {token: {env: TOKEN, sources: [other]}}\n")
    controller = ControllerProcess(
        tmp_path, "--config", str(config), "--source", str(folder)
    ).start()
    try:
        shown = json.loads(rondel("get", "workflow", "one", "-o", "json").stdout)
        ready = next(one for one in shown["conditions"] if one["type"] == "Ready")
        assert (ready["status"], ready["reason"]) == ("False", "InvalidManifest")
        assert "secret 'token' is not for source 'w'" in ready["message"]
        assert controller.runs() == [], "what was never valid starts nothing"
    finally:
        controller.stop()


def test_a_hook_that_sends_an_alert_nobody_has_defined_is_a_fault(controller, folder, rondel):
    hook = "  onFailure: [{name: page, alert: ops}]\n" + ON_CHANGE
    (folder / "one.yaml").write_text(manifest("one", "true", hook))
    controller.start()
    shown = json.loads(rondel("get", "workflow", "one", "-o", "json").stdout)
    ready = next(one for one in shown["conditions"] if one["type"] == "Ready")
    assert "there is no alert 'ops'" in ready["message"]
    assert controller.runs() == []
    told = rondel("exec", str(folder / "one.yaml"), "--executor", "local")
    assert told.returncode == 0, "it is not reached"


def test_a_suspended_source_is_not_waited_for(tmp_path, folder):
    config = tmp_path / "rondel.yaml"
    config.write_text(f"sources: [{{name: s, kind: Directory, path: '{folder}', suspend: true}}]\n")
    (folder / "one.yaml").write_text(manifest("one", "true", ON_CHANGE))
    controller = ControllerProcess(tmp_path, "--config", str(config)).start()
    assert controller.stop() == 0
    assert controller.runs() == []


def test_a_source_is_looked_at_when_someone_asks(controller, folder, rondel):
    (folder / "one.yaml").write_text(manifest("one", "true", ON_CHANGE))
    controller.start()
    controller.until(lambda: controller.events("listening"), "it listens")
    revision = controller.look(lambda reader: reader.source("w")).last_applied_revision
    done = rondel("reconcile", "w", "--wait")
    assert (done.returncode, done.stdout) == (0, f"source w: {revision}\n")
    assert rondel("reconcile", "nope").returncode == 2
