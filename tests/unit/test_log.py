"""The log: the same keys for machines and for people."""

import io
import json

import pytest
import structlog

from controller import log


@pytest.fixture(autouse=True)
def as_before():
    yield
    structlog.reset_defaults()


def written(**how) -> str:
    stream = io.StringIO()
    log.configure(stream=stream, **how)
    structlog.get_logger().info(
        "run_created", run="r-1", source="main", workflow="w", extra="", n=0
    )
    return stream.getvalue()


def test_a_line_is_json_with_its_head_first():
    line = json.loads(written())
    assert list(line)[:6] == ["time", "level", "event", "source", "workflow", "run"]
    assert line["time"].endswith("Z")
    assert "extra" not in line
    assert line["n"] == 0


def test_on_a_terminal_it_reads_as_a_sentence_about_someone():
    text = written(as_json=False)
    assert "run created" in text
    assert "main/w/r-1" in text


def test_digests_are_short_for_people():
    assert log.short("main@sha1:" + "a" * 40) == "main@sha1:" + "a" * 10


def test_what_is_below_the_level_is_left_out():
    assert written(level="error") == ""
