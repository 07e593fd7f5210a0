"""`rondel plan`: which work follows from a change, and because of which file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import environment
from tests.e2e.controller_process import ON_CHANGE, manifest


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


def test_new_times_and_new_rights_are_told(repository, rondel):
    folder, commit = repository
    often = "  schedules: [{name: t, cron: '0 * * * *'}]\n  secrets: [key]\n"
    commit(flows__timed_yaml=manifest("timed", "true", often))
    _, found, _ = planned(rondel, folder, "--base", "HEAD~1", "--head", "HEAD")
    old, new = sorted(found["timed"]["schedules"], key=lambda one: one["runsPerMonth"])
    assert (old["schedule"], len(old["before"]), old["after"]) == ("0 3 * * * UTC", 5, [])
    assert (new["schedule"], new["before"], len(new["after"])) == ("t", [], 5)
    assert (old["runsPerMonth"], new["runsPerMonth"]) == (-30, 720)
    assert found["timed"]["grants"] == [{"kind": "Secret", "name": "key"}]
    assert found["same"]["schedules"] == found["same"]["grants"] == []


def test_markdown_for_a_pull_request_lets_no_file_write_it(repository, rondel):
    folder, commit = repository
    hostile = "x` | <img src=a> @ada"
    commit(data__n="2", **{f"data__{hostile}": "1", "flows__bad_yaml": "apiVersion: rondel/x\n"})
    done = rondel(
        "plan", "--source", folder, "--base", "HEAD~1", "--head", "HEAD", "-o", "markdown"
    )
    text = done.stdout
    assert text.startswith("**Rondel plan**: 1 changed, ")
    assert "| Changed | `ops/reads` | runs now | " in text
    assert "`` data/x` \\| <img src=a> @ada ``" in text, "inside one code span"
    assert "**Faults**" in text


def test_the_tree_says_what_follows(repository, rondel):
    folder, commit = repository
    commit(data__n="2", flows__gone_yaml=None)
    done = rondel("plan", "--source", folder, "--base", "HEAD~1", "--head", "HEAD")
    assert "~ ops/reads: runs now" in done.stdout
    assert "the file changed: data/n (input data)" in done.stdout
    assert "- ops/gone: is retired" in done.stdout


JOBS = sorted((Path(__file__).parents[2] / "examples" / "ci").glob("*.yml"))


def lines_of(block):
    """Return the shell lines of a job of GitHub Actions or GitLab CI."""
    job = yaml.safe_load(block)
    for one in job.get("jobs", job).values():
        yield from one.get("script", [])
        yield from (step["run"] for step in one.get("steps", []) if "run" in step)


@pytest.mark.parametrize("file", JOBS, ids=lambda one: one.stem)
def test_the_jobs_for_ci_say_what_follows(file, repository, tmp_path):
    folder, commit = repository
    commit(data__n="2")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "rondel").write_text(
        f'#!/bin/sh\nexec {sys.executable} -m controller.cli.main "$@"\n'
    )
    (programs / "rondel").chmod(0o755)
    path = f"{programs}:{environment()['PATH']}"
    asked = [line for line in lines_of(file.read_text()) if line.startswith("rondel ")]
    assert asked
    for line in asked:
        env = environment(PATH=path, BASE="HEAD~1")
        subprocess.run(["sh", "-c", line], cwd=folder, env=env, check=True, capture_output=True)
    assert "| Changed | `ops/reads` | runs now | " in (folder / "plan.md").read_text()
