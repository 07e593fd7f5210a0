"""The examples of the page on schedules and triggers, run on a real controller."""

import json
import re
from pathlib import Path

import pytest

from controller.model.run import Phase, Trigger
from tests.e2e.controller_process import ControllerProcess

PAGE = (Path(__file__).resolve().parents[2] / "docs/reference/schedules.md").read_text("utf-8")
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
HEAD = "apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {{name: {name}}}\n"
REPORT = """\
  params: [{name: region, default: us}]
  steps:
    - name: a
      env: {REGION: "${{ params.region }}"}
      script: while [ -e HOLD ]; do sleep 0.02; done; echo $REGION > region.txt
      outputs: {region: {path: region.txt}}
  outputs: {region: "${{ steps.a.outputs.region }}"}
"""
PUBLISH = """\
  steps: [{name: a, script: "true"}]
"""
WRITTEN_ID = "report.backfill-1a2b3c4d5e"


def blocks(kind, heading):
    """Return the blocks of a section; of the page's beginning when the heading is ""."""
    begin = f"\n## {heading}\n" if heading else "# Schedules and triggers\n"
    section = PAGE.split(begin, 1)[1].split("\n## ", 1)[0]
    return [text for found, text in BLOCK.findall(section) if found == kind]


def commands(heading):
    (block,) = blocks("", heading)
    return [line.partition("  #")[0].rstrip() for line in block.splitlines()]


@pytest.fixture
def controller(tmp_path):
    """A controller that has loaded the page's two workflows."""
    folder = tmp_path / "reader"
    folder.mkdir()
    for name, heading, rest in (
        ("report", "", REPORT.replace("HOLD", str(tmp_path / "hold"))),
        ("publish", "After another workflow", PUBLISH),
    ):
        (spec,) = blocks("yaml", heading)
        (folder / f"{name}.yaml").write_text(HEAD.format(name=name) + spec + rest)
    made = ControllerProcess(tmp_path, "--source", str(folder)).start()
    yield made
    (tmp_path / "hold").unlink(missing_ok=True)
    made.stop()


@pytest.fixture
def reader(shell, controller, tmp_path):
    """Type a line beside the workflows' files; return what it says."""

    def call(line):
        done = shell(f"export RONDEL_STATE_DIR={controller.state}; {line}", tmp_path / "reader")
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout

    return call


def test_the_slots_to_come_and_what_is_next(reader):
    to_come, around, story = commands("")
    assert reader(to_come).count("30 2 * * *") in {6, 7, 8}  # the clock may change in that week
    assert "runs at 03:00" in reader(around)
    told = reader(story)
    assert "Triggers:\n  a change of the spec or the inputs\n" in told
    assert "30 2 * * *  Europe/Berlin" in told


def test_why_a_slot_did_not_start(reader):
    (line,) = commands("Why a slot did not start")
    shown = json.loads(reader(f"{line} -o json"))
    assert [one["schedule"] for one in shown] == ["nightly"]
    assert [f"`{one['answer']}`" in PAGE for one in shown] == [True]
    assert shown[0]["answer"] in reader(line)


def test_a_backfill_is_listed_made_and_cancelled(reader, controller, tmp_path):
    listing, making, cancelling = commands("Backfill")
    (tmp_path / "hold").touch()
    assert reader(listing).count("T01:30:00Z") == 7
    assert filled(controller) == []
    made = re.search(r"report\.backfill-\w+", reader(making))
    assert made is not None
    assert [made[0] in one.identity for one in filled(controller)] == [True] * 7
    assert WRITTEN_ID in cancelling
    reader(cancelling.replace(WRITTEN_ID, made[0]))
    controller.until(
        lambda: {one.phase for one in filled(controller)} == {Phase.CANCELLED},
        "all of it is cancelled",
    )


def test_one_workflow_runs_after_another(reader, controller):
    running, listing, story = commands("After another workflow")
    controller.until(lambda: ended(controller, Phase.SUCCEEDED), "the first change has run")
    run = reader(running).strip()
    controller.until(
        lambda: any(run in one.identity for one in controller.runs(workflow="publish")),
        "its end has its run",
    )
    shown = json.loads(reader(listing))
    (one,) = [one for one in shown if one["cause"] == {"run": run}]
    assert (one["trigger"], one["params"]) == ("Upstream", {"region": "us"})
    assert "an end of report in Succeeded" in reader(story)


def filled(controller):
    return [one for one in controller.runs() if one.trigger is Trigger.BACKFILL]


def ended(controller, phase):
    return controller.runs(workflow="report", phases={phase})
