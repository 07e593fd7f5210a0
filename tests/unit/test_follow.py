"""Following a log that grows beyond its limit: quiet, but never without a word."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from controller import layout
from controller.clock import SystemClock
from controller.execute.logs import LogSegment
from controller.execute.scrub import Scrubber
from controller.serve.follow import GOES_ON, LogFollower


def test_a_log_over_its_limit_says_so_once_and_its_newest_lines_come_at_the_end(tmp_path):
    run: Any = SimpleNamespace(id="w-1", source="s", workflow="w")
    attempt: Any = SimpleNamespace(
        step="a", index=0, number=1, log=None, started_at=datetime.now(UTC)
    )
    follower = LogFollower(tmp_path, run)
    path = layout.segment(tmp_path, "w-1", "a", 0, 1)
    segment = LogSegment(path, scrubber=Scrubber(()), clock=SystemClock(), max_size=4000)

    def told():
        return [line["line"] for line in follower.new_lines([attempt], {})]

    segment.write("stdout", b"first\n")
    assert told() == ["first"]
    for number in range(60):
        segment.write("stdout", f"line {number}\n".encode())
    seen = told()
    assert seen[0] == "line 0"
    assert told() == [GOES_ON["line"]]
    segment.write("stdout", b"last\n")
    assert told() == [], "said once"
    segment.close()
    end = told()
    assert "left out" in end[0]
    assert end[-1] == "last"
    assert not set(end) & set(seen)
