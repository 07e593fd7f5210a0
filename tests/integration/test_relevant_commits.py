"""Which commits cause something: by digests alone, and of a thousand workflows just the one."""

import collections
from pathlib import Path

import pytest

from controller.model.run import Trigger
from controller.reconcile.plan import plan
from tests.controlled import NOBODY, controlling
from tests.e2e.controller_process import ON_CHANGE, manifest
from tests.source_places import Repository

MANY = 1000
READING = "  inputs: [{name: app, path: apps/%s}]\n"
LOOKS = "  triggers: [{onChange: [%s]}]\n"


@pytest.fixture
def evaluated(monkeypatch):
    """The workflows that the planner has looked at, counted."""
    counts: collections.Counter[str] = collections.Counter()

    def counted(declaration, observed, now):
        if observed.key != NOBODY:
            counts[observed.key[1]] += 1
        return plan(declaration, observed, now)

    monkeypatch.setattr("controller.reconciler.plan", counted)
    return counts


async def test_of_a_thousand_workflows_a_commit_looks_at_the_one_it_touches_and_runs_it(
    tmp_path, evaluated
):
    repository = Repository(tmp_path / "repository")
    files = {f"w__{n}_yaml": manifest(f"w{n}", spec=READING % n) for n in range(MANY)}
    inputs = {f"apps__{n}__main_py": f"print({n})\n" for n in range(MANY)}
    repository.commit(**files, **inputs)
    async with controlling(tmp_path, repository) as it:
        waiting = LOOKS % "inputs"  # the spec is another one: nothing that it asks for
        await it.commit(
            **{f"w__{n}_yaml": manifest(f"w{n}", spec=READING % n + waiting) for n in range(9)}
        )
        assert await it.daemon.store.read(lambda reader: reader.runs()) == []

        async def caused(*gone: str, **files: str) -> tuple[set[str], list[str]]:
            evaluated.clear()
            known = {run.id for run in await it.daemon.store.read(lambda r: r.runs())}
            await it.commit(*gone, **files)
            runs = await it.daemon.store.read(lambda reader: reader.runs())
            assert all(run.trigger is Trigger.CHANGE for run in runs)
            return set(evaluated), [run.workflow for run in runs if run.id not in known]

        assert await caused(apps__7__main_py="print('new')\n") == ({"w7"}, ["w7"])
        assert await caused(apps__500__main_py="print('new')\n") == ({"w500"}, [])
        assert await caused(apps__3__more_py="a new file") == ({"w3"}, ["w3"])
        assert await caused("apps/3/more_py") == ({"w3"}, ["w3"])
        changed = manifest("w5", "echo new", READING % 5 + waiting)
        assert await caused(w__5_yaml=changed) == ({"w5"}, [])
        assert await caused(README_md="of nobody's concern") == (set(), [])
        assert await caused(apps__unread__x="of nobody's concern") == (set(), [])
        assert it.numbers("w7") == (2, 3)
        assert it.numbers("w500") == (1, 2)


BARE = manifest("one", "true", ON_CHANGE + "  inputs: [{name: d, path: data}]\n")
REORDERED = """# A comment, and the keys in another order.
kind: Workflow
spec:
  steps:
    - script: "true"     # the same
      name:   a
  inputs: [{path: data, name: d}]
  triggers: [{onChange: ["spec", 'inputs']}]

metadata: {name: one}
apiVersion: rondel/v1alpha1
"""


def chmod(repository: Repository, path: str) -> None:
    (repository.folder / path).chmod(0o755)


def changed_and_back(repository: Repository, _: str) -> None:
    for text in (manifest("one", "echo other", ON_CHANGE), BARE):
        repository.commit(one_yaml=text, data__x="other" if text is not BARE else "as it was")


IRRELEVANT = {
    "keys in another order, comments, other quotes": lambda it, _: it.commit(one_yaml=REORDERED),
    "white space": lambda it, _: it.commit(one_yaml=BARE + "\n\n"),
    "a readme": lambda it, _: it.commit(README_md="words"),
    "a manifest that may be executed": chmod,
    "a change and its opposite within one look": changed_and_back,
    "a manifest that moves": lambda it, path: it.git("mv", path, "moved.yaml"),
    "an empty commit": lambda it, _: it.commit(),
}


@pytest.mark.parametrize("act", IRRELEVANT.values(), ids=IRRELEVANT)
async def test_a_commit_that_touches_nothing_relevant_causes_nothing(tmp_path: Path, act):
    repository = Repository(tmp_path / "repository")
    repository.commit(one_yaml=BARE, data__x="as it was")
    async with controlling(tmp_path, repository) as it:
        act(repository, "one.yaml")
        await it.commit()
        assert it.source().last_applied_revision.endswith(repository.git("rev-parse", "HEAD"))
        assert it.numbers("one") == (1, 1)
        assert len(await it.runs("one")) == 1


async def test_the_mode_of_an_input_is_part_of_it(tmp_path: Path):
    repository = Repository(tmp_path / "repository")
    repository.commit(one_yaml=BARE, data__x="as it was")
    async with controlling(tmp_path, repository) as it:
        chmod(repository, "data/x")
        await it.commit()
        assert it.numbers("one") == (1, 2)
        assert len(await it.runs("one")) == 2
