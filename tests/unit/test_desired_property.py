"""Any sequence of commits: the desired state follows from the last tree and the last valid specs.

The planner is driven along, with the memory a controller has, so that runs can be counted.
"""

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.manifest import parse_file
from controller.model.changes import CreateRun, FinishRun
from controller.model.run import Phase, Trigger
from controller.model.source import Entry, ParsedFile, Snapshot
from controller.observations import Observations
from controller.reconcile import desired
from controller.reconcile.plan import Observed, plan

NAMES = ("one", "two", "three")
FILES = ("a.yaml", "b.yaml", "c/d.yaml")
BROKEN = None
"""A file's text: its (name, version) pairs in order, or BROKEN."""

Text = tuple[tuple[str, int], ...] | None
Tree = Mapping[str, Text]
NOON = datetime(2027, 3, 10, 12, tzinfo=UTC)

WORKFLOWS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 2)), min_size=1, max_size=2
).map(tuple)


KINDS = ("write", "move", "remove", "break", "copy", "swap")
ACTS = st.tuples(st.sampled_from(KINDS), st.permutations(FILES), WORKFLOWS)


def acted(tree: Tree, kind: str, files: Sequence[str], text: Text) -> Tree:
    """Return a tree after one act: add, edit, mend; move, remove, break, duplicate, swap."""
    after, (one, other, _) = dict(tree), files
    if kind in {"write", "break"}:
        after[one] = text if kind == "write" else BROKEN
    elif one in tree and kind == "remove":
        del after[one]
    elif one in tree and kind == "move":
        after[other] = after.pop(one)
    elif one in tree and kind == "copy":
        after[other] = tree[one]
    elif one in tree and other in tree:
        after[one], after[other] = tree[other], tree[one]
    return after


COMMITS = st.lists(st.lists(ACTS, min_size=1, max_size=3), min_size=1, max_size=8)


@lru_cache(maxsize=4096)
def parsed(path: str, text: Text) -> ParsedFile:
    one = (
        "apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {{name: {}}}\nspec:\n"
        "  triggers: [{{onChange: [spec]}}]\n  steps: [{{name: a, script: 'echo {}'}}]\n"
    )
    written = "kind: [" if text is None else "---\n".join(one.format(*pair) for pair in text)
    return parse_file(path, written.encode(), source="s", blob=written)


def advanced(loaded: desired.Loaded, before: Tree, after: Tree) -> desired.Loaded:
    differing = [path for path in {**before, **after} if changed(path, before, after)]
    files = {path: parsed(path, after[path]) if path in after else None for path in differing}
    entries = {path: Entry("100644", "b") for path in after}
    return desired.advance(loaded, Snapshot(source="s", revision="r", entries=entries), files)


def changed(path: str, before: Tree, after: Tree) -> bool:
    return (path in before) != (path in after) or before.get(path) != after.get(path)


def trees(commits) -> list[Tree]:
    """Return every tree, from the first, empty one."""
    found: list[Tree] = [{}]
    for commit in commits:
        tree = found[-1]
        for act in commit:
            tree = acted(tree, *act)
        found.append(tree)
    return found


def declaring(tree: Tree, name: str) -> list[tuple[str, int]]:
    """Return each declaration of a name: its file and version."""
    texts = ((path, text) for path, text in tree.items() if text is not None)
    return [(path, version) for path, text in texts for one, version in text if one == name]


def versions(loaded: desired.Loaded) -> dict[str, tuple[str, str]]:
    return {name: (one.file, one.spec_digest) for name, one in loaded.declarations.items()}


def digest(path: str, name: str, version: int) -> str:
    (one,) = parsed(path, ((name, version),)).documents
    assert one.declaration is not None
    return one.declaration.spec_digest


def restarted(loaded: desired.Loaded, tree: Tree) -> desired.Loaded:
    """Return what a controller that starts now makes of the tree and the last valid specs."""
    known = loaded.declarations.values()
    first = desired.Loaded.empty("s", owners={one.name: one.file for one in known})
    recalled = desired.remembered(first, known)
    return advanced(recalled, dict.fromkeys(recalled.files, ()), tree)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(COMMITS)
def test_the_last_tree_and_the_last_valid_specs_say_what_is_desired(commits):
    loaded = desired.Loaded.empty("s")
    steps = trees(commits)
    for before, tree in itertools.pairwise(steps):
        last = versions(loaded)
        loaded = advanced(loaded, before, tree)
        now = versions(loaded)
        unread = [path for path, text in tree.items() if text is None]
        for name in NAMES:
            found = declaring(tree, name)
            if len(found) > 1:  # contested: neither changes it
                assert now.get(name) == last.get(name)
                assert name in loaded.invalid
            elif len(found) == 1 and not unread:
                path, version = found[0]
                assert now[name] == (path, digest(path, name, version))
                assert name not in loaded.invalid
            elif not found and not unread and any(tree.values()):
                assert name not in now
            elif not found and any(changed(path, before, tree) for path in unread):
                assert now.get(name) == last.get(name), "what can't be read removes nothing"
        assert versions(restarted(loaded, tree)) == now


class World:
    """What a controller remembers of every workflow; runs start, and succeed, at once."""

    def __init__(self) -> None:
        self.memory = Observations([], [])
        self.now = NOON
        self.started: list[tuple[str, int, str]] = []  # workflow, change, spec

    def pass_over(self, loaded: desired.Loaded) -> None:
        self.now += timedelta(minutes=1)
        for name in sorted(loaded.changed):
            for _ in range(2):  # a pass that is repeated does nothing more
                self.pass_over_one(loaded, name)

    def pass_over_one(self, loaded: desired.Loaded, name: str) -> None:
        key = ("s", name)
        observed = Observed(
            key=key,
            status=self.memory.status(key),
            active=self.memory.active(key),
            fault=loaded.invalid.get(name),
            held=loaded.holds(name),
        )
        for change in plan(loaded.declarations.get(name), observed, self.now).changes:
            self.memory.apply(change)
            if isinstance(change, CreateRun):
                assert change.run.trigger is Trigger.CHANGE
                self.started.append((name, change.run.change, change.run.spec_digest))
                end = FinishRun(run=change.run.id, phase=Phase.SUCCEEDED, at=self.now)
                self.memory.apply(end)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(COMMITS)
def test_a_workflow_has_one_run_for_each_spec_that_differs_from_the_one_before(commits):
    loaded, world = desired.Loaded.empty("s"), World()
    expected: list[tuple[str, int, str]] = []
    seen: dict[str, tuple[int, str]] = {}  # workflow -> change, spec: also of retired ones
    steps = trees(commits)
    for before, tree in itertools.pairwise(steps):
        loaded = advanced(loaded, before, tree)
        for name, one in sorted(loaded.declarations.items()):
            number, last = seen.get(name, (0, ""))
            if last != one.spec_digest:
                seen[name] = (number + 1, one.spec_digest)
                expected.append((name, number + 1, one.spec_digest))
        world.pass_over(loaded)
    assert sorted(world.started) == sorted(expected)
    for name, one in loaded.declarations.items():
        status = world.memory.status(("s", name))
        assert status is not None
        assert (status.file, status.spec_digest) == (one.file, one.spec_digest)
        assert (status.retired, status.generation) == (False, seen[name][0])
