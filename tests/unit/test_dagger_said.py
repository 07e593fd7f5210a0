"""What an attempt has said: each line once, whatever came live."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.execute.dagger import said
from controller.execute.dagger.said import INCOMPLETE, LEFT_OUT, Listener, unheard


class Page:
    """An Output that keeps what it is given."""

    def __init__(self):
        self.written = {"stdout": b"", "stderr": b""}
        self.order: list[str] = []
        self.notes: list[str] = []

    def write(self, stream, data):
        self.written[stream] += data
        self.order.append(stream)

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def page():
    return Page()


@pytest.fixture(autouse=True)
def _short_drain(monkeypatch):
    monkeypatch.setattr(said, "DRAIN_SECONDS", 0.05)


async def test_what_did_not_come_live_is_written_at_the_end(page):
    await Listener(page).complete("all of it\n", "")
    assert page.written["stdout"] == b"all of it\n"
    assert page.notes == []


async def test_the_rest_follows_what_was_heard(page):
    listener = Listener(page)
    listener.take("stdout", "one\ntw", ended=False)
    await listener.complete("one\ntwo\n", "")
    assert page.written["stdout"] == b"one\ntwo\n"


async def test_a_line_that_comes_too_late_is_not_written_twice(page):
    listener = Listener(page)
    await listener.complete("one\n", "")
    listener.take("stdout", "one\n", ended=True)
    assert page.written["stdout"] == b"one\n"


async def test_a_hole_in_the_live_output_is_filled_with_whole_lines_and_told(page):
    listener = Listener(page)
    for piece in ("1\n2\n", "5\n6\n"):
        listener.take("stdout", piece, ended=False)
    await listener.complete("1\n2\n3ä\n4\n5\n6\n7\n", "")
    assert page.written["stdout"] == "1\n2\n5\n6\n7\n3ä\n4\n".encode()
    assert page.notes == [LEFT_OUT]


async def test_a_line_cut_by_a_hole_is_told_again_whole_and_no_other_is_torn(page):
    listener = Listener(page)
    for piece in ("11\n2", "44\n5"):
        listener.take("stdout", piece, ended=False)
    await listener.complete("11\n22\n33\n44\n55", "")
    assert page.written["stdout"] == b"11\n244\n55\n22\n33\n44\n"


async def test_the_trimmed_text_of_a_failed_command_adds_nothing(page):
    listener = Listener(page)
    listener.take("stderr", "bad\r\n", ended=False)
    listener.take("stderr", "\n\n", ended=True)
    await listener.complete("", "bad")
    assert page.written["stderr"] == b"bad\r\n\n\n"
    assert page.notes == []


async def test_two_streams_wait_a_moment_for_the_order_that_only_live_output_has(page):
    listener = Listener(page)
    listener.take("stderr", "first\n", ended=True)
    listener.take("stdout", "second\n", ended=True)
    await listener.complete("second\n", "first\n")
    assert page.order == ["stderr", "stdout"]


async def test_a_long_failed_text_is_not_laid_beside_what_was_heard(page):
    listener = Listener(page)
    whole = "x" * 9 + "\n"
    for _ in range(20_000):
        listener.take("stdout", whole, ended=False)
    await listener.complete(f"[omitting {200_000 - said.CAP} bytes]...xxx\n", "")
    assert len(page.written["stdout"]) == 200_000
    assert page.notes == []


async def test_a_long_failed_text_with_holes_says_so(page):
    listener = Listener(page)
    listener.take("stdout", "a\n", ended=False)
    await listener.complete("[omitting 5000 bytes]...b\n", "")
    assert page.written["stdout"] == b"a\n"
    assert page.notes == [INCOMPLETE]


async def test_a_long_failed_text_of_which_nothing_was_heard_is_written(page):
    await Listener(page).complete("[omitting 5000 bytes]...b\n", "")
    assert page.written["stdout"] == b"[omitting 5000 bytes]...b\n"


async def test_a_huge_stream_is_not_kept_for_comparing(page, monkeypatch):
    monkeypatch.setattr(said, "LARGEST", 10)
    listener = Listener(page)
    before = listener.comparable
    listener.take("stdout", "more than ten bytes\n", ended=False)
    assert (before, listener.comparable) == (True, False)
    assert listener.heard == 20


@given(
    st.lists(st.tuples(st.text("ab\nä", min_size=1, max_size=8), st.booleans()), max_size=12),
)
def test_no_piece_is_lost_whichever_came_live(pieces):
    whole = "".join(text for text, _ in pieces).encode()
    live = [text.encode() for text, came in pieces if came]
    holes, rest = unheard(whole, live)
    assert len(rest) + sum(map(len, holes)) + sum(map(len, live)) >= len(whole)
    if len(live) == len(pieces):
        assert (holes, rest) == ([], b"")
    if not live:
        assert (holes, rest) == ([], whole)


@given(st.data())
async def test_each_line_stands_whole_in_the_log_whichever_pieces_came_live(data):
    """Pieces are cut anywhere; the engine drops some."""
    count = data.draw(st.integers(1, 12))
    whole = "".join(f"<{number}>\n" for number in range(count))
    cuts = data.draw(st.sets(st.integers(1, len(whole)), max_size=8))
    ends = [*sorted(cuts - {len(whole)}), len(whole)]
    pieces = [whole[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    came = data.draw(st.lists(st.booleans(), min_size=len(pieces), max_size=len(pieces)))
    page = Page()
    listener = Listener(page)
    for piece, live in zip(pieces, came, strict=True):
        if live:
            listener.take("stdout", piece, ended=False)
    await listener.complete(whole, "")
    told = page.written["stdout"].decode().split("\n")
    assert {f"<{number}>" for number in range(count)} <= set(told)
    assert len(told) <= 2 * count + 2
