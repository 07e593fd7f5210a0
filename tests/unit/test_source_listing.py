"""Sorted paths kept in step by single changes say the same as sorting anew."""

from hypothesis import given
from hypothesis import strategies as st

from controller.model.source import Entry
from controller.source.files import Found
from controller.source.listing import Listing

PATHS = st.sampled_from(["a", "a/b", "a/b/c", "a-b", "a0", "a.yaml", "b", "ü", "a/ü", "z/y"])
CHANGES = st.dictionaries(PATHS, st.one_of(st.none(), st.sampled_from(["1" * 40, "2" * 40])))


def found(blob):
    return Found(entry=Entry("100644", blob)) if blob else None


@given(st.lists(CHANGES))
def test_after_any_changes_it_is_as_if_made_at_once(rounds):
    state: dict[str, str] = {}
    step_by_step = Listing()
    for changes in rounds:
        step_by_step.put_all((path, found(blob)) for path, blob in changes.items())
        state = {path: blob for path, blob in {**state, **changes}.items() if blob}
    at_once = Listing()
    at_once.put_all((path, found(blob)) for path, blob in state.items())
    assert step_by_step.digest() == at_once.digest()
    assert step_by_step.at("") == sorted(state)
    for place in ("a", "a/b", "z", "none"):
        below = [path for path in sorted(state) if path == place or path.startswith(place + "/")]
        assert step_by_step.at(place) == below


def test_a_path_with_nothing_to_show_is_listed_but_not_part_of_the_digest():
    listing, empty = Listing(), Listing()
    listing.put_all([("pipe", Found())])
    assert listing.at("") == ["pipe"]
    assert listing.digest() == empty.digest()
