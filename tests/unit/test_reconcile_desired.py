"""Desired state over snapshots: what counts as gone, as broken, as somebody else's."""

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.manifest import parse_file
from controller.model.source import Entry, Fault, Snapshot
from controller.reconcile import desired

BROKEN = b"kind: [unclosed"


def text(*names: str) -> bytes:
    one = (
        "apiVersion: rondel/v1alpha1\nkind: Workflow\n"
        "metadata: {{name: {}}}\nspec: {{steps: [{{name: a, script: 'true'}}]}}\n"
    )
    return "---\n".join(one.format(name) for name in names).encode()


def load(loaded, files, *, unreadable=(), entries=()) -> desired.Loaded:
    parsed = {
        path: None if data is None else parse_file(path, data, source="s")
        for path, data in files.items()
    }
    still = {path: Entry("100644", "b") for path in entries}
    seen = Snapshot(source="s", revision="r", entries=still, unreadable=tuple(unreadable))
    return desired.advance(loaded, seen, parsed)


EMPTY = desired.Loaded.empty("s")


def test_a_renamed_file_keeps_its_workflow():
    loaded = load(EMPTY, {"a.yaml": text("one")})
    moved = load(loaded, {"a.yaml": None, "b/c.yaml": text("one")})
    assert moved.declarations["one"].file == "b/c.yaml"
    assert moved.invalid == {}
    assert moved.changed == {"one"}


def test_a_file_that_the_snapshot_still_has_is_not_gone_because_it_could_not_be_read():
    loaded = load(EMPTY, {"a.yaml": text("one"), "b.yaml": text("two")})
    raced = load(loaded, {"a.yaml": None}, entries=["a.yaml", "b.yaml"])
    assert set(raced.declarations) == {"one", "two"}


def test_a_document_whose_name_cannot_be_read_may_be_any_of_its_file():
    loaded = load(EMPTY, {"a.yaml": text("one", "two")})
    nameless = load(loaded, {"a.yaml": text("one", "two").replace(b"{name: two}", b"{nam: two}")})
    assert set(nameless.declarations) == {"one", "two"}
    assert set(nameless.invalid) == {"two"}
    mistyped = load(
        loaded, {"a.yaml": text("one", "two").replace(b"kind: Workflow", b"kind: Workfow", 1)}
    )
    assert set(mistyped.declarations) == {"one", "two"}


def test_a_faulty_document_takes_no_other_of_its_file_with_it():
    loaded = load(EMPTY, {"a.yaml": text("one", "two")})
    faulty = load(loaded, {"a.yaml": text("one", "two", "three").replace(b"script", b"scrip", 1)})
    assert set(faulty.declarations) == {"one", "two", "three"}
    assert set(faulty.invalid) == {"one"}
    assert str(faulty.invalid["one"]).startswith("a.yaml:4:")


def test_a_workflow_leaves_a_file_that_is_well():
    loaded = load(EMPTY, {"a.yaml": text("one", "two")})
    assert set(load(loaded, {"a.yaml": text("two")}).declarations) == {"two"}


def test_when_the_owner_goes_two_that_want_its_name_load_neither_and_it_stays():
    loaded = load(EMPTY, {"a.yaml": text("one")})
    fought = load(loaded, {"a.yaml": None, "b.yaml": text("one"), "c.yaml": text("one")})
    assert fought.declarations == loaded.declarations
    assert "b.yaml and in c.yaml" in str(fought.invalid["one"])
    settled = load(fought, {"c.yaml": None})
    assert settled.declarations["one"].file == "b.yaml"
    assert settled.invalid == {}


def test_an_emptied_source_is_pruned_once_something_is_there_again():
    loaded = load(EMPTY, {"a.yaml": text("one"), "b.yaml": text("two")})
    emptied = load(loaded, {"a.yaml": None, "b.yaml": None})
    assert set(emptied.declarations) == {"one", "two"}
    assert all(map(emptied.holds, ("one", "two")))
    again = load(emptied, {"b.yaml": text("two")})
    assert set(again.declarations) == {"two"}
    assert again.changed == {"one"}
    assert again.path_faults == ()


def test_a_source_found_empty_after_a_restart_retires_nothing():
    first = desired.Loaded.empty("s", owners={"one": "a.yaml"})
    assert load(first, {}).holds("one")
    allowed = desired.Loaded.empty("s", owners={"one": "a.yaml"}, allow_empty=True)
    assert not load(allowed, {}).holds("one")


def test_after_a_restart_what_is_gone_is_gone_and_what_is_hidden_is_not():
    first = desired.Loaded.empty("s", owners={"one": "a/one.yaml", "two": "b/two.yaml"})
    loaded = load(first, {"c.yaml": text("three")}, unreadable=["a"])
    assert loaded.holds("one")
    assert not loaded.holds("two")
    assert not loaded.holds("never-heard-of")


def test_after_a_restart_a_file_that_cannot_be_parsed_is_not_read_as_removed():
    first = desired.Loaded.empty("s", owners={"one": "a.yaml", "two": "b.yaml"})
    loaded = load(first, {"a.yaml": BROKEN, "b.yaml": text("two")})
    assert set(loaded.invalid) == {"one"}
    assert loaded.holds("one")


def test_after_a_restart_a_broken_manifest_has_its_last_valid_spec():
    before = load(EMPTY, {"a.yaml": text("one")})
    first = desired.Loaded.empty("s", owners={"one": "a.yaml"})
    first = desired.remembered(first, before.declarations.values())
    loaded = load(first, {"a.yaml": BROKEN})
    assert loaded.declarations == before.declarations
    assert set(loaded.invalid) == {"one"}
    gone = load(first, {"a.yaml": None, "b.yaml": text("two")})
    assert set(gone.declarations) == {"two"}
    assert "one" in gone.changed


def test_a_broken_file_that_is_new_later_claims_no_name_of_the_past():
    first = desired.Loaded.empty("s", owners={"one": "a.yaml"})
    loaded = load(first, {"b.yaml": text("one")})
    later = load(loaded, {"a.yaml": BROKEN})
    assert later.invalid == {}
    assert [fault.file for fault in later.faults] == ["a.yaml"]


def test_faults_are_told_by_file_once_and_end_with_their_file():
    loaded = load(EMPTY, {"b.yaml": BROKEN, "a.yaml": text("one").replace(b"steps", b"stepz")})
    assert [fault.file for fault in loaded.faults] == sorted(fault.file for fault in loaded.faults)
    assert len(set(loaded.faults)) == len(loaded.faults)
    assert load(loaded, {"a.yaml": text("one"), "b.yaml": None}).faults == ()


def test_only_what_differs_is_changed():
    loaded = load(EMPTY, {f"{n}.yaml": text(f"w{n}") for n in range(20)})
    same = load(loaded, {"3.yaml": text("w3")})
    assert same.changed == frozenset()
    other = load(loaded, {"3.yaml": text("w3").replace(b"true", b"false")})
    assert other.changed == {"w3"}


FILES = st.dictionaries(
    st.sampled_from(["a.yaml", "b.yaml", "c/d.yaml"]),
    st.one_of(
        st.none(),
        st.just(BROKEN),
        st.sampled_from([text("one"), text("two"), text("one", "two"), text("one", "one")]),
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(FILES, max_size=6))
def test_nothing_loaded_is_lost_unless_every_file_that_declared_it_says_so(steps):
    loaded = EMPTY
    texts: dict[str, bytes | None] = {}
    for step in steps:
        before = loaded
        texts |= step
        loaded = load(loaded, step)
        present = {path: data for path, data in texts.items() if data is not None}
        if not present or BROKEN in present.values():
            continue
        said = b"".join(present.values())
        for name in ("one", "two"):
            if b"name: %s}" % name.encode() not in said:
                assert name not in loaded.declarations
            elif name in before.declarations:
                assert name in loaded.declarations
        assert set(loaded.changed) >= set(before.declarations) ^ set(loaded.declarations)


def test_every_fault_of_an_emptied_source_is_told_beside_those_of_paths():
    loaded = load(EMPTY, {"a.yaml": text("one")})
    link = Fault(file="x", problem="is a link out of the snapshot")
    seen = Snapshot(source="s", revision="r", entries={}, faults=(link,))
    emptied = desired.advance(loaded, seen, {"a.yaml": None})
    assert link in emptied.all_faults
    assert len(emptied.all_faults) == 2
