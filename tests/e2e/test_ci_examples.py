"""The examples for CI: their commands are run as GitHub and GitLab run them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.controller_process import manifest
from tests.source_places import Repository

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "ci"
DAILY = "  schedules: [{name: daily, cron: '0 3 * * *'}]\n"
HOURLY = "  schedules: [{name: daily, cron: '0 * * * *'}]\n"


@pytest.fixture
def ops(tmp_path):
    """A repository whose branch `change` is merged into `main`, which went on meanwhile."""
    return Repository(tmp_path / "ops")


def merged(ops: Repository, text: str) -> str:
    """Return what the change started at; its merge is HEAD."""
    start = ops.commit(flows__report_yaml=manifest("report", spec=DAILY))
    ops.git("checkout", "--quiet", "-b", "change")
    ops.commit(flows__report_yaml=text)
    ops.git("checkout", "--quiet", "main")
    ops.commit(flows__other_yaml=manifest("other"))
    ops.git("merge", "--quiet", "--no-edit", "change")
    return start


def clone(ops: Repository, *options: str) -> Path:
    place = ops.folder.parent / "clone"
    ops.git("clone", "--quiet", *options, ops.url, str(place))
    return place


def github() -> Any:
    return yaml.safe_load((EXAMPLES / "github-actions.yml").read_text())["jobs"]["plan"]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (manifest("report", spec=HOURLY), 0, "690 runs more"),
        (manifest("report", spec=HOURLY).replace("steps", "stepps"), 2, "unknown key"),
    ],
)
def test_github_has_the_plan_of_the_merge_whatever_it_ends_with(ops, shell, text, code, said):
    merged(ops, text)
    checkout, _, planning, _ = github()["steps"]
    place = clone(ops, f"--depth={checkout['with']['fetch-depth']}")
    (place / "plan.sh").write_text(planning["run"])
    done = shell("GITHUB_STEP_SUMMARY=summary.md bash -e plan.sh", place)
    assert done.returncode == code, done.stderr
    plan = (place / "plan.md").read_text()
    assert said in plan
    assert "other" not in plan  # what others merged meanwhile is not this change's
    assert (place / "summary.md").read_text() == plan


def test_githubs_token_is_given_to_the_comment_alone():
    text = (EXAMPLES / "github-actions.yml").read_text()
    assert yaml.safe_load(text)[True] == "pull_request"
    *others, commenting = github()["steps"]
    assert "env" not in github()
    assert all("env" not in one for one in others)
    assert commenting["env"]["GH_TOKEN"] == "${{ github.token }}"
    assert not any("${{" in one.get("run", "") for one in github()["steps"])  # no text as a script


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (manifest("report", spec=HOURLY), 0),
        (manifest("report", spec=HOURLY).replace("steps", "stepps"), 2),
    ],
)
def test_gitlab_keeps_the_plan_and_fails_for_a_fault(ops, shell, text, code):
    start = merged(ops, text)
    ops.git("checkout", "--quiet", "change")  # GitLab checks out the change, not its merge
    job = yaml.safe_load((EXAMPLES / "gitlab-ci.yml").read_text())["plan"]
    assert job["variables"]["GIT_DEPTH"] == "0"
    _, planning = job["script"]
    place = clone(ops)
    (place / "plan.sh").write_text(planning)
    done = shell(f"BASE={start} bash -eo pipefail plan.sh", place)
    assert done.returncode == code, done.stderr
    assert "report" in (place / "plan.md").read_text()
    assert job["artifacts"] == {"expose_as": "plan", "paths": ["plan.md"], "when": "always"}
