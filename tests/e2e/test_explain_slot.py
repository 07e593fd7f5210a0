"""`rondel explain WORKFLOW --at TIME` on what a real controller has left."""

import json
from datetime import timedelta

from tests.e2e.controller_process import ControllerProcess, manifest

EVERY_SECOND = "  schedules: [{name: tick, cron: '* * * * * *'}]\n"


def explained(rondel, at):
    told = rondel("explain", "w", "--at", at, "-o", "json")
    assert told.returncode == 0, told.stderr
    (one,) = json.loads(told.stdout)
    return one


def test_slots_that_ran_were_forbidden_or_lie_before_the_first_sighting(tmp_path, rondel):
    folder = tmp_path / "w"
    folder.mkdir()
    hold = tmp_path / "hold"
    hold.touch()
    script = f"while [ -e {hold} ]; do sleep 0.02; done"
    (folder / "w.yaml").write_text(manifest("w", script, EVERY_SECOND))
    controller = ControllerProcess(tmp_path, "--source", str(folder)).start()
    try:
        found = lambda reason: [r for r in controller.runs() if r.reason == reason]  # noqa: E731
        forbidden = controller.until(lambda: found("ConcurrencyForbidden"), "one is forbidden")[-1]
        hold.unlink()
        ended = lambda: [r for r in controller.runs() if r.phase == "Succeeded"]  # noqa: E731
        ran = controller.until(ended, "one has run")[-1]
    finally:
        controller.stop()
    told = explained(rondel, forbidden.scheduled_time.isoformat())
    assert (told["answer"], told["run"]) == ("ConcurrencyForbidden", forbidden.id)
    assert ran.id in told["words"]
    told = explained(rondel, ran.scheduled_time.isoformat())
    assert (told["answer"], told["run"]) == ("Succeeded", ran.id)
    assert "jitter 0 s" in told["words"]
    early = explained(rondel, (ran.scheduled_time - timedelta(days=1)).isoformat())
    assert (early["answer"], early["run"]) == ("FirstSeenLater", None)
    late = explained(rondel, (ran.scheduled_time + timedelta(days=400)).isoformat())
    assert late["answer"] == "Ahead"
    text = rondel("explain", "w", "--at", ran.scheduled_time.isoformat())
    assert f"tick  Succeeded: run {ran.id}" in text.stdout
    assert rondel("explain", "w", "--at", "soon").returncode == 2


def test_schedule_names_what_is_suspended_and_notes_what_the_clock_does(tmp_path, rondel):
    folder = tmp_path / "w"
    folder.mkdir()
    berlin = "  schedules: [{cron: '30 2 * * *', timeZone: Europe/Berlin}]\n"
    (folder / "w.yaml").write_text(manifest("w", "true", berlin))
    (folder / "s.yaml").write_text(manifest("s", "true", f"  suspend: true\n{berlin}"))
    ControllerProcess(tmp_path, "--source", str(folder)).start().stop()
    words = ("schedule", "--after", "2027-03-28T00:00:00Z", "--count", "1")
    told = rondel(*words)
    assert "suspended, no slot starts: w/s (s.yaml says `suspend: true`)" in told.stderr
    assert "2027-03-28T01:00:00Z w: 02:30 doesn't exist on 2027-03-28" in told.stdout
    (one,) = json.loads(rondel(*words, "-o", "json").stdout)
    assert (one["source"], one["workflow"]) == ("w", "w")
    assert one["note"].endswith("runs at 03:00")
    told = rondel("explain", "w", "--at", "2027-03-28T02:30")  # there is no such time that day
    assert "Ahead" in told.stdout
