"""A secret leaves no trace in what is written, however it was cut or encoded."""

import base64
import json
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.clock import SystemClock
from controller.execute.logs import LogSegment
from controller.execute.scrub import Scrubber

SECRETS = st.text(st.characters(codec="ascii", exclude_characters="\r\n"), min_size=4, max_size=60)


@given(secret=SECRETS, before=st.binary(max_size=7), after=st.binary(max_size=7))
def test_base64_at_any_alignment_is_scrubbed(secret, before, after):
    text = base64.b64encode(before + secret.encode() + after)
    kept = Scrubber([secret]).scrub(text)
    assert b"***" in kept


@given(secret=SECRETS)
def test_plain_and_url_encoded_are_scrubbed(secret):
    scrubber = Scrubber([secret])
    assert scrubber.scrub(secret.encode()) == b"***"
    assert scrubber.scrub(quote(secret, safe="").encode()) == b"***"


def test_values_under_four_bytes_are_left_alone():
    assert Scrubber(["abc", ""]).scrub(b"abc") == b"abc"


def test_long_base64_wrapped_into_lines_is_scrubbed():
    value = "".join(map(str, range(100)))
    kept = Scrubber([value]).scrub(base64.encodebytes(value.encode()))
    assert set(kept.split()) == {b"***"}


def test_lines_of_a_value_with_several_lines_are_scrubbed():
    assert Scrubber(["first line\nsecond line"]).scrub(b"a second line b") == b"a *** b"


def test_the_longer_of_two_secrets_goes_first():
    assert Scrubber(["pass", "password"]).scrub(b"password") == b"***"


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(st.sampled_from(["sekrit-value", "x", "y" * 70_000, "z" * 65_530]), max_size=6),
    newline=st.sampled_from(["\n", ""]),
    size=st.sampled_from([1000, 4096, 65_536, 65_530]),
)
def test_no_cut_between_chunks_or_lines_shows_a_secret(lines, newline, size, tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "a.jsonl"
    segment = LogSegment(
        path, scrubber=Scrubber(["sekrit-value"]), clock=SystemClock(), max_size=1 << 22
    )
    data = newline.join(lines).encode()
    for start in range(0, len(data), size):
        segment.write("stdout", data[start : start + size])
    segment.close()
    written = path.read_text().splitlines() if path.exists() else []
    texts = [json.loads(line)["line"] for line in written]
    assert "sekrit" not in "".join(texts)
    assert "".join(texts).count("***") == lines.count("sekrit-value")
    assert all(len(text) <= 65_536 for text in texts)
