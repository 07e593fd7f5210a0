"""The live log: lines, cuts, limits."""

import json
from typing import Any

import pytest

from controller.clock import SystemClock
from controller.execute.logs import LogSegment
from controller.execute.scrub import Scrubber


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "a.0.1.jsonl"


def segment(path, **words):
    facts: dict[str, Any] = {"scrubber": Scrubber(()), "clock": SystemClock(), "max_size": 1 << 20}
    return LogSegment(path, **(facts | words))


def lines(path):
    return [line["line"] for line in entries(path)]


def entries(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_lines_split_across_chunks_are_joined(path):
    log = segment(path)
    log.write("stdout", b"one\ntw")
    assert lines(path) == ["one"]
    log.write("stderr", b"other\n")
    log.write("stdout", b"o\nlast")
    log.close()
    assert lines(path) == ["one", "other", "two", "last"]


def test_a_line_is_on_disk_as_soon_as_it_is_whole(path):
    log = segment(path)
    log.write("stdout", b"now\n")
    assert lines(path) == ["now"]
    log.close()


def test_invalid_utf8_is_replaced_and_a_split_character_is_whole(path):
    log = segment(path)
    log.write("stdout", b"\xff\xc3")
    log.write("stdout", b"\xa9\r\n")
    log.close()
    assert lines(path) == ["\ufffd\u00e9"]


def test_our_own_words_have_no_stream(path):
    log = segment(path)
    log.note("timed out")
    log.close()
    found = json.loads(path.read_text())
    assert (found["stream"], found["line"]) == (None, "timed out")
    assert found["time"].endswith("Z")


def test_a_step_that_says_nothing_leaves_no_file(path):
    segment(path).close()
    assert not path.exists()


def test_a_huge_line_is_cut_and_memory_stays_bounded(path):
    log = segment(path, max_size=1 << 24)
    for _ in range(100):
        log.write("stdout", b"x" * 65_536)
        assert sum(map(len, log._partial.values())) <= 2 * 65_536
    log.close()
    assert sum(map(len, lines(path))) == 100 * 65_536


def test_a_log_over_its_limit_keeps_its_first_and_last_part(path):
    log = segment(path, max_size=100_000)
    for number in range(20_000):
        log.write("stdout", f"line {number}\n".encode())
        if number % 1000 == 0:
            assert sum(one.stat().st_size for one in path.parent.iterdir()) < 110_000
    log.close()
    assert log.truncated
    found = lines(path)
    assert (found[0], found[-1]) == ("line 0", "line 19999")
    assert any("left out" in line for line in found)
    assert path.stat().st_size < 110_000
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    marks = [line for line in entries(path) if line["stream"] is None]
    assert len(marks) == 1
    assert marks[0]["time"]


def test_every_line_is_told_as_it_is_written(path):
    told = []
    log = segment(path, on_line=lambda stream, line, _: told.append((stream, line)))
    log.write("stdout", b"a\nb\n")
    log.close()
    assert told == [("stdout", "a"), ("stdout", "b")]
