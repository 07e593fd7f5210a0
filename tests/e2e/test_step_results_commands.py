"""Kept results of steps, as a person sees them: get, cache, explain, logs, the API, the metric."""

import json
import subprocess

import httpx
import pytest

from tests.e2e.controller_process import ControllerProcess

WORKFLOW = """\
apiVersion: rondel/v1alpha1
kind: Workflow
metadata: {name: report}
spec:
  inputs: [{name: src, path: SRC}]
  triggers: [{onChange: [spec, inputs]}]
  defaults: {cache: {mode: Auto}}
  steps:
    - name: read
      script: cat src/*; cat src/* > all
      mounts: [{input: src, path: src}]
      artifacts: [{name: all, path: all}]
    - name: other
      script: echo other
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.txt").write_text("one\n")
    (tmp_path / "src" / "b.txt").write_text("two\n")
    (tmp_path / "w.yaml").write_text(WORKFLOW.replace("SRC", "src"))
    return tmp_path


def execute(rondel):
    done = rondel("exec", "w.yaml", "--executor", "local", "-o", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_exec_is_served_by_what_exec_has_kept_and_says_so(place, rondel):
    first, second = execute(rondel), execute(rondel)
    assert [one["cached"] for one in second["steps"]] == [True, True]
    assert [one["attempts"] for one in second["steps"]] == [0, 0]
    assert first["steps"][0]["artifacts"] == second["steps"][0]["artifacts"]
    log = rondel("logs", second["id"], "read").stdout
    assert log.startswith(f"-- cached: result of run {first['id']}, step read, made at 20")
    assert log.endswith("\none\ntwo\n")
    live = rondel("exec", "w.yaml", "--executor", "local").stdout
    assert "read | -- cached: result of run" in live
    assert "read | two" in live


def test_fresh_runs_what_could_be_served(place, rondel):
    execute(rondel)
    done = rondel("exec", "w.yaml", "--executor", "local", "--fresh", "-o", "json")
    shown = json.loads(done.stdout)
    assert [one["cached"] for one in shown["steps"]] == [False, False]
    assert "compute anew" in rondel("explain", shown["id"]).stdout


def test_explain_names_what_differs(place, rondel):
    first = execute(rondel)
    (place / "src" / "b.txt").write_text("three\n")
    second = execute(rondel)
    told = rondel("explain", second["id"]).stdout.splitlines()
    assert told[0] == f"read   ran; it differs from run {first['id']} in:"
    assert told[1].strip() == "the content of mount.src changed (src)"
    assert told[2].startswith(f"other  not run: served by the result of run {first['id']}")
    shown = json.loads(rondel("explain", second["id"][:12], "-o", "json").stdout)
    assert [one["answer"] for one in shown["steps"]] == ["Ran", "LedgerHit"]
    [difference] = shown["steps"][0]["cache"]["differs"]
    assert (difference["part"], difference["input"]) == ("mount.src", "src")


def test_results_are_listed_shown_and_forgotten(place, rondel):
    made = execute(rondel)
    listed = json.loads(rondel("cache", "ls", "--step", "read", "-o", "json").stdout)
    assert [(one["source"], one["run"], one["step"]) for one in listed] == [
        ("exec", made["id"], "read")
    ]
    key = listed[0]["name"]
    assert len(json.loads(rondel("get", "cache", "-o", "json").stdout)) == 2
    shown = json.loads(rondel("cache", "show", key[:20], "-o", "json").stdout)
    assert shown["artifacts"] == {"all": made["steps"][0]["artifacts"]["all"]}
    assert shown["parts"]["executor"] == "local"
    assert rondel("cache", "show", "sha256:nothing").returncode == 2
    assert "several" in rondel("cache", "rm", "sha256:").stderr
    assert rondel("cache", "rm", key).stdout.startswith("1 result forgotten")
    assert rondel("cache", "prune").stdout.startswith("0 results forgotten")
    assert "report" in rondel("cache", "prune", "--all", "--dry-run").stdout
    assert rondel("cache", "prune", "--all", "--source", "x").stdout.startswith("0 results")
    assert rondel("cache", "prune", "--all").stdout.startswith("1 result forgotten")
    assert json.loads(rondel("cache", "ls", "-o", "json").stdout) == []
    reasons = [one["reason"] for one in json.loads(rondel("get", "events", "-o", "json").stdout)]
    assert reasons.count("CacheEntriesDropped") == 2


def test_without_a_store_the_directory_is_named(rondel):
    for words in (("ls",), ("prune",), ("rm", "sha256:1")):
        done = rondel("cache", *words)
        assert done.returncode == 4
        assert "--state-dir" in done.stderr


def git(folder, *words):
    subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=T", "-c", "user.email=t@example.com", *words],
        check=True,
        capture_output=True,
    )


def commit(folder):
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")


def ended(controller, count):
    """The newest first, once there are so many."""
    runs = [one for one in controller.runs(workflow="report") if one.phase.terminal]
    return runs if len(runs) == count else None


def test_a_controller_serves_results_and_explain_names_the_file_that_changed(tmp_path, rondel):
    repository = tmp_path / "repo"
    (repository / "src").mkdir(parents=True)
    (repository / "flows").mkdir()
    git(repository, "init", "-q", "-b", "main")
    (repository / "src" / "a.txt").write_text("one\n")
    (repository / "src" / "b.txt").write_text("two\n")
    (repository / "flows" / "w.yaml").write_text(WORKFLOW.replace("SRC", "src"))
    commit(repository)
    controller = ControllerProcess(tmp_path, "--source", str(repository))
    controller.start()
    try:
        [first] = controller.until(lambda: ended(controller, 1), "the first run")
        controller.until(lambda: controller.events("listening"), "the doors are open")
        (repository / "src" / "b.txt").write_text("three\n")
        commit(repository)
        second, _ = controller.until(lambda: ended(controller, 2), "the second run")
        told = rondel("explain", second.id).stdout
        assert "the content of mount.src changed (src/b.txt)" in told
        assert f"served by the result of run {first.id}, step other" in told
        transport = httpx.HTTPTransport(uds=str(controller.state / "api" / "rondel.sock"))
        with httpx.Client(transport=transport, base_url="http://rondel") as client:
            metrics = client.get("/metrics").text
            assert 'rondel_cache_requests_total{result="Hit"} 1.0' in metrics
            assert 'rondel_cache_requests_total{result="Miss"}' in metrics
            page = client.get("/api/v1/cache", params={"limit": 2}).json()
            assert len(page["items"]) == 2
            rest = client.get("/api/v1/cache", params={"cursor": page["next"], "limit": 2}).json()
            assert (len(rest["items"]), rest["next"]) == (1, None)
            one = client.get(f"/api/v1/cache/{page['items'][0]['name']}").json()
            assert one["parts"]["format"] == 1
            for key in ("sha256:none", "sha256:"):
                assert client.get(f"/api/v1/cache/{key}").status_code == 404
            assert client.post("/api/v1/cache/prune", json={"unusedFor": "x"}).status_code == 422
            gone = client.post("/api/v1/cache/prune", json={"all": True}).json()
            assert gone["dropped"] == 3
            assert client.get("/api/v1/cache").json()["items"] == []
            log = client.get(f"/api/v1/runs/{second.id}/logs", params={"step": "other"}).text
            assert [json.loads(line)["line"] for line in log.splitlines()][1:] == ["other"]
    finally:
        controller.stop()
