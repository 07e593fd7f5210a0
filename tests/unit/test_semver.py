"""Which versions a range takes, and which tag is the highest of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.model.semver import BEGIN, highest, parse_range, version


def takes(text: str, tag: str) -> bool:
    key = version(tag)
    return key is not None and parse_range(text).holds(key)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("1.2.3", ["1.2.3", "v1.2.3", "1.2.3+build"], ["1.2.4", "1.2.3-rc.1"]),
        ("=1.2", ["1.2.0", "v1.2.9"], ["1.3.0", "1.1.9"]),
        ("1.x", ["1.0.0", "1.99.0", "v1"], ["2.0.0", "0.9.0", "1.5.0-rc.1"]),
        ("*", ["0.0.0", "99.0.0"], ["1.0.0-alpha"]),
        (">=1.2 <2", ["1.2.0", "1.9.9"], ["1.1.9", "2.0.0", "2.0.0-rc.1"]),
        (">= 1.2, < 2", ["1.2.0", "1.9.9"], ["2.0.0"]),
        (">1.2", ["1.3.0"], ["1.2.0", "1.2.9"]),
        (">1.2.3", ["1.2.4"], ["1.2.3"]),
        ("<=1.2", ["1.2.9", "0.1.0"], ["1.3.0"]),
        ("<=1.2.3", ["1.2.3"], ["1.2.4"]),
        ("~1.2.3", ["1.2.3", "1.2.9"], ["1.2.2", "1.3.0"]),
        ("~1", ["1.0.0", "1.9.0"], ["2.0.0"]),
        ("~>1.2", ["1.2.5"], ["1.3.0"]),
        ("^1.2.3", ["1.2.3", "1.9.0"], ["1.2.2", "2.0.0"]),
        ("^0.2.3", ["0.2.3", "0.2.9"], ["0.3.0", "0.2.2"]),
        ("^0.0.3", ["0.0.3"], ["0.0.4"]),
        ("^0.0", ["0.0.0", "0.0.9"], ["0.1.0"]),
        ("^0", ["0.0.0", "0.9.0"], ["1.0.0"]),
        ("1.2 - 2.3", ["1.2.0", "2.3.9"], ["1.1.9", "2.4.0"]),
        ("1.2 - 2.3.4 || 4.x", ["2.3.4", "4.1.0"], ["2.3.5", "3.0.0"]),
        ("!=1.2.3 1.x", ["1.2.4", "1.0.0"], ["1.2.3", "2.0.0"]),
        (">=1.2.0-0", ["1.2.0-alpha", "1.2.0", "3.0.0-rc.1"], ["1.1.9"]),
        ("^1.2.0-0", ["1.2.0-alpha", "1.9.0-rc.1"], ["2.0.0-alpha"]),
        ("1.0.0-rc.1", ["1.0.0-rc.1"], ["1.0.0-rc.2", "1.0.0"]),
    ],
)  # fmt: skip
def test_a_range_takes_these_versions_and_not_those(text, inside, outside):
    assert [one for one in inside if not takes(text, one)] == []
    assert [one for one in outside if takes(text, one)] == []


@pytest.mark.parametrize(
    "text",
    ["", "  ", ",", "latest", ">=", "1.2.3.4", "1.x.3", "1.2-rc", ">=1.2 <", "|| 1", "1 ||", ">>1", "01.2", "1" * 300,
     "^1.2.3 foo", "1.2.3 -- 2", "--upload-pack=x", "1.2;2"],
)  # fmt: skip
def test_these_are_no_ranges(text):
    with pytest.raises(ValueError, match=r"is over|can't|leaves|says"):
        parse_range(text)


def test_the_order_is_that_of_the_specification():
    order = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
             "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.1.0", "2.0.0"]  # fmt: skip
    assert sorted({*order}, key=lambda one: version(one) or BEGIN) == order


def test_the_highest_tag_wins_whatever_else_is_tagged():
    tags = ["nightly", "v1.9.0", "v1.10.0", "1.2", "v2.0.0-rc.1", "release-3.0.0", "v1.x"]
    assert highest(tags, parse_range("*")) == "v1.10.0"
    assert highest(tags, parse_range(">=2.0.0-0")) == "v2.0.0-rc.1"
    assert highest(tags, parse_range(">=3")) is None
    assert highest(["1.2.0", "v1.2.0"], parse_range("1.2")) == "v1.2.0"


numbers = st.integers(0, 30)


@given(numbers, numbers, numbers, st.lists(st.tuples(numbers, numbers, numbers), max_size=20))
def test_a_caret_range_is_its_two_comparators(major, minor, patch, versions):
    low = f"{major + 1}.{minor}.{patch}"
    written, spelled = parse_range(f"^{low}"), parse_range(f">={low} <{major + 2}")
    for one in versions:
        key = version(".".join(map(str, one))) or BEGIN
        assert written.holds(key) == spelled.holds(key)


@given(st.text(max_size=40))
def test_any_text_is_a_range_or_refused(text):
    try:
        parse_range(text)
    except ValueError:
        return
    assert any(char.isdigit() or char in "xX*" for char in text)
