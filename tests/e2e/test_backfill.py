"""`rondel backfill` on a real controller."""

import json

import pytest

from controller.model.run import Phase, Trigger
from tests.e2e.controller_process import ControllerProcess, manifest

NIGHTLY = (
    "  schedules: [{name: nightly, cron: '30 2 * * *', timeZone: Europe/Berlin}]\n  triggers: []\n"
)
SCRIPT = "while [ -e HOLD ]; do sleep 0.02; done; echo $DATE >> MARKS"
SPAN = ("--from", "2026-03-27", "--to", "2026-04-01")
DATES = [f"2026-03-{day}" for day in range(27, 32)]


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "w"
    made.mkdir()
    script = SCRIPT.replace("HOLD", str(tmp_path / "hold")).replace("MARKS", str(tmp_path / "ran"))
    day = "      env: {DATE: '${{ run.date }}'}\n"
    (made / "w.yaml").write_text(manifest("w", script, NIGHTLY) + day)
    return made


@pytest.fixture
def controller(tmp_path, folder):
    made = ControllerProcess(tmp_path, "--source", str(folder)).start()
    yield made
    if made.process is not None:
        made.stop()


def ran(folder):
    file = folder.parent / "ran"
    return file.read_text().split() if file.exists() else []


def fill(rondel, *words):
    told = rondel("backfill", "w", *SPAN, *words, "-o", "json")
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def over(controller, number):
    runs = controller.runs(workflow="w")
    return len(runs) == number and all(run.phase.terminal for run in runs)


def test_the_slots_of_a_span_run_in_order_and_the_same_request_makes_nothing_new(
    controller, folder, rondel
):
    listed = fill(rondel, "--dry-run")
    assert [one["time"] for one in listed["slots"]][1:3] == [
        "2026-03-28T01:30:00Z",
        "2026-03-29T01:00:00Z",  # 03:00, for a 02:30 that does not exist
    ]
    assert (listed["id"], listed["created"]) == (None, 0)
    assert controller.runs() == []
    made = fill(rondel, "--key", "once")
    assert made["created"] == 5
    controller.until(lambda: over(controller, 5), "the backfill is over")
    assert ran(folder) == DATES
    runs = controller.runs(workflow="w")
    assert {run.trigger for run in runs} == {Trigger.BACKFILL}
    assert {run.id for run in runs} == {one["run"] for one in made["slots"]}
    assert fill(rondel, "--key", "once") == {**made, "created": 0}
    assert len(controller.runs(workflow="w")) == 5
    other = fill(rondel, "--key", "twice")
    assert not {one["run"] for one in other["slots"]} & {run.id for run in runs}
    controller.until(lambda: over(controller, 10), "the second is over")


def test_killed_in_the_middle_it_goes_on_without_doubles(controller, folder, rondel):
    (folder.parent / "hold").touch()
    made = fill(rondel)
    first = made["slots"][0]["run"]
    phase = lambda: controller.look(lambda r: r.run(first)).phase  # noqa: E731
    controller.until(lambda: phase() is Phase.RUNNING, "the first runs")
    controller.kill()
    (folder.parent / "hold").unlink()
    controller.start()
    controller.until(lambda: over(controller, 5), "the backfill is over")
    assert phase() is Phase.INTERRUPTED
    assert [one for one in ran(folder) if one != DATES[0]] == DATES[1:]


def test_a_backfill_is_cancelled_as_a_whole(controller, folder, rondel):
    (folder.parent / "hold").touch()
    made = fill(rondel)
    controller.until(lambda: any(r.started_at for r in controller.runs()), "one runs")
    told = rondel("cancel", made["id"])
    assert told.returncode == 0, told.stderr
    assert "5 runs are being cancelled" in told.stdout
    controller.until(lambda: over(controller, 5), "all are over")
    assert {run.phase for run in controller.runs()} == {Phase.CANCELLED}
    assert ran(folder) == []
    again = rondel("cancel", made["id"])
    assert again.returncode == 1
    assert "nothing of it waits or runs" in again.stderr


def test_what_is_too_much_or_unclear_is_refused(controller, folder, rondel):
    del controller, folder
    refused = rondel("backfill", "w", *SPAN, "--limit", "4")
    assert refused.returncode == 1
    assert "more than 4 slots" in refused.stderr
    unclear = rondel("backfill", "w", "--from", "2026-04-02", "--to", "2026-04-01")
    assert unclear.returncode == 2
    assert "no time lies" in unclear.stderr
