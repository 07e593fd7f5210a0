"""What a controller makes of a repository's commits: moved, contested, removed, kept, suspended.

Every look is asked for, and a test goes on when everything that follows from it has happened.
"""

import asyncio
from functools import partial

import pytest

from controller.model.condition import ORPHANED, SUSPENDED, Suspension, Sync
from controller.model.run import Phase
from controller.model.settings import GitRef
from controller.reconcile.sharing import SHARED
from tests.controlled import Controlled, controlling, daemon_of, source, standing
from tests.e2e.controller_process import ON_CHANGE, manifest
from tests.source_places import Repository, serving

BROKEN = "kind: [unclosed"
KEEP = manifest("keep")  # so that a source is never empty


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "repository")


@pytest.fixture
def controlled(tmp_path, repository):
    """Call it for a controller: with what its source says beside its URL."""
    return partial(controlling, tmp_path, repository)


# Names that move.


async def test_a_move_alone_retires_nothing_runs_nothing_and_raises_no_number(
    repository, controlled
):
    repository.commit(a_yaml=manifest("one", "true", ON_CHANGE))
    async with controlled() as it:
        await it.commit("a.yaml", deep__b_yaml=manifest("one", "true", ON_CHANGE))
        assert it.status("one").file == "deep/b.yaml"
        assert it.numbers("one") == (1, 1)
        assert len(await it.runs("one")) == 1
        assert await it.events("one") == ["WorkflowLoaded", "ManifestMoved"]


async def test_a_move_with_a_change_is_one_change(repository, controlled):
    repository.commit(a_yaml=manifest("one", "true", ON_CHANGE))
    async with controlled() as it:
        await it.commit("a.yaml", b_yaml=manifest("one", "echo new", ON_CHANGE))
        assert it.numbers("one") == (2, 2)
        assert len(await it.runs("one")) == 2
        assert await it.events("one") == ["WorkflowLoaded", "SpecChanged"]


async def test_two_names_that_swap_their_files_stay_who_they_are(repository, controlled):
    one, two = (manifest(name, f"echo {name}", ON_CHANGE) for name in ("one", "two"))
    repository.commit(a_yaml=one, b_yaml=two)
    async with controlled() as it:
        await it.commit(a_yaml=two, b_yaml=one)
        assert (it.status("one").file, it.status("two").file) == ("b.yaml", "a.yaml")
        for name in ("one", "two"):
            assert it.numbers(name) == (1, 1)
            assert len(await it.runs(name)) == 1


async def test_a_move_while_no_controller_is_there_is_a_move_alone(repository, controlled):
    repository.commit(a_yaml=manifest("one", "true", ON_CHANGE))
    async with controlled():
        """It has run once."""
    (repository.folder / "a.yaml").unlink()
    repository.commit(b_yaml=manifest("one", "true", ON_CHANGE))
    async with controlled() as it:
        assert (it.status("one").file, it.numbers("one")) == ("b.yaml", (1, 1))
        assert len(await it.runs("one")) == 1
        assert await it.retired() == set()


async def test_a_file_that_is_moved_and_broken_in_one_commit_takes_no_workflow_with_it(
    repository, controlled
):
    repository.commit(a_yaml=manifest("one", "true", ON_CHANGE), keep_yaml=KEEP)
    async with controlled() as it:
        await it.commit("a.yaml", b_yaml=BROKEN)
        assert it.ready("one").startswith("False b.yaml:2:")
        assert "'one' may be in here" in it.ready("one")
    async with controlled() as it:
        assert await it.retired() == set(), "nor over a restart"
        await it.commit(b_yaml=manifest("one", "true", ON_CHANGE))
        assert it.ready("one") == "True"
        assert (it.status("one").file, it.numbers("one")) == ("b.yaml", (1, 1))
        assert len(await it.runs("one")) == 1
        await it.commit("b.yaml", c_yaml=BROKEN)
        await it.commit(c_yaml=manifest("other"))
        assert await it.retired() == {"one"}, "it can be read, and is not in there"


# Names that two files want.


async def test_of_two_files_with_one_name_neither_changes_it_until_one_gives_way(
    repository, controlled
):
    repository.commit(a_yaml=manifest("one", "true", ON_CHANGE), keep_yaml=KEEP)
    async with controlled() as it:
        await it.commit(b_yaml=manifest("one", "echo b", ON_CHANGE))
        assert it.ready("one").startswith("False b.yaml:1:1: /metadata/name: 'one'")
        assert "declared in a.yaml and in b.yaml" in it.ready("one")
        await it.commit(a_yaml=manifest("one", "echo a", ON_CHANGE))
        assert it.numbers("one") == (1, 1)
        assert len(await it.runs("one")) == 1
        assert await it.daemon._requests().run("ops", "one", {}) is not None, "the last valid works"
        await it.settled()
    async with controlled() as it:
        assert it.numbers("one") == (1, 1), "nor over a restart"
        assert "a.yaml and in b.yaml" in it.ready("one")
        await it.commit("a.yaml")
        assert (it.ready("one"), it.status("one").file) == ("True", "b.yaml")
        assert it.numbers("one") == (2, 2)
        assert [run.trigger.value for run in await it.runs("one")] == ["Change", "Manual", "Change"]


async def test_a_name_twice_in_one_file_keeps_its_last_valid_text(repository, controlled):
    repository.commit(a_yaml=manifest("one"), keep_yaml=KEEP)
    async with controlled() as it:
        twice = f"{manifest('one', 'echo 1')}---\n{manifest('one', 'echo 2')}"
        await it.commit(a_yaml=twice)
        assert "'one' is declared twice in this file" in it.ready("one")
        assert it.numbers("one") == (1, 1)
        await it.commit(a_yaml=manifest("one", "echo 2"))
        assert (it.ready("one"), it.numbers("one")) == ("True", (2, 2))


# What is removed.


async def test_what_waits_is_skipped_what_runs_ends_and_coming_back_is_no_change(
    repository, controlled, tmp_path
):
    gate = tmp_path / "gate"
    script = f"until [ -e {gate} ]; do sleep 0.02; done"
    repository.commit(held_yaml=manifest("held", script, ON_CHANGE), keep_yaml=KEEP)
    async with controlled() as it:
        requests = it.daemon._requests()
        waits = await requests.run("ops", "held", {}, queue=True)
        await it.commit("held.yaml")
        assert await it.retired() == {"held"}
        active, skipped = await it.runs("held")
        assert (skipped.id, skipped.phase, skipped.reason) == (waits.id, Phase.SKIPPED, "Retired")
        assert not active.phase.terminal
        gate.touch()
        while not (await it.runs("held"))[0].phase.terminal:
            await asyncio.sleep(0.01)
        assert (await it.runs("held"))[0].phase is Phase.SUCCEEDED
        await it.commit(held_yaml=manifest("held", script, ON_CHANGE))
        assert it.numbers("held") == (1, 1)
        assert len(await it.runs("held")) == 2, "nothing differs: nothing runs"
        assert (await it.events("held"))[-2:] == ["WorkflowRetired", "WorkflowRestored"]
        await it.commit("held.yaml")
        await it.commit(held_yaml=manifest("held", "echo new", ON_CHANGE))
        assert it.numbers("held") == (2, 2)
        assert len(await it.runs("held")) == 3, "something differs: one run"


async def test_a_suspension_by_command_outlives_the_removal_of_its_workflow(repository, controlled):
    one = manifest("one", "true", ON_CHANGE)
    repository.commit(a_yaml=one, keep_yaml=KEEP)
    async with controlled() as it:
        by = Suspension(by="ann", reason="freeze", at=it.daemon.clock.now())
        await it.daemon._requests().suspend("ops", "one", by)
        await it.settled()
        await it.commit("a.yaml")
        assert standing(it.status("one").conditions, SUSPENDED) is None
        await it.commit(a_yaml=manifest("one", "echo new", ON_CHANGE))
        assert standing(it.status("one").conditions, SUSPENDED).message == str(by)
        assert len(await it.runs("one")) == 1
        await it.daemon._requests().suspend("ops", "one", None)
        await it.settled()
        assert len(await it.runs("one")) == 2, "the change that was seen meanwhile"


async def test_a_run_that_calls_a_workflow_ends_well_when_both_are_removed(
    repository, controlled, tmp_path
):
    gate = tmp_path / "gate"
    callee = manifest("held-callee", f"until [ -e {gate} ]; do sleep 0.02; done")
    caller = (
        "apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {name: held-caller}\n"
        f"spec:\n{ON_CHANGE}  steps:\n"
        "    - {name: wait, uses: {workflow: held-callee}}\n"
        "    - {name: again, needs: [wait], uses: {workflow: held-callee}}\n"
    )
    repository.commit(a_yaml=callee, b_yaml=caller, keep_yaml=KEEP)
    async with controlled() as it:
        while not await it.runs("held-callee"):
            await asyncio.sleep(0.01)
        await it.commit("a.yaml", "b.yaml")
        assert await it.retired() == {"held-caller", "held-callee"}
        gate.touch()
        while not (await it.runs("held-caller"))[0].phase.terminal:
            await asyncio.sleep(0.01)
        (run,) = await it.runs("held-caller")
        assert run.phase is Phase.SUCCEEDED
        assert [one.phase for one in await it.runs("held-callee")] == [Phase.SUCCEEDED] * 2


# What stays.


async def test_without_prune_a_workflow_outlives_its_manifest_and_says_so(repository, controlled):
    repository.commit(a_yaml=manifest("one", "true", ON_CHANGE), keep_yaml=KEEP)
    async with controlled(prune=False) as it:
        await it.commit("a.yaml")
        told = standing(it.status("one").conditions, ORPHANED)
        assert (told.reason, "a.yaml doesn't declare it any more" in told.message) == (
            "PruneDisabled",
            True,
        )
        assert (it.status("one").sync, it.ready("one")) == (Sync.OUT_OF_SYNC, "True")
        assert it.source().sync is Sync.OUT_OF_SYNC
        assert "without a manifest: one" in standing(it.source().conditions, "Ready").message
    async with controlled(prune=False) as it:
        assert standing(it.status("one").conditions, ORPHANED) == told, "also over a restart"
        await it.daemon._requests().run("ops", "one", {})
        await it.settled()
        assert (await it.runs("one"))[-1].phase is Phase.SUCCEEDED
        await it.commit(b_yaml=manifest("one", "true", ON_CHANGE))
        assert standing(it.status("one").conditions, ORPHANED) is None
        assert (it.status("one").sync, it.source().sync) == (Sync.SYNCED, Sync.SYNCED)
        assert len(await it.runs("one")) == 2
        assert await it.events("one") == ["WorkflowLoaded", ORPHANED, "WorkflowRestored"]
        await it.commit("b.yaml")
    async with controlled() as it:
        assert await it.retired() == {"one"}, "with prune again it goes"


async def test_without_prune_also_the_last_workflow_outlives_its_manifest(repository, controlled):
    repository.commit(a_yaml=manifest("one", "true", ON_CHANGE))
    async with controlled(prune=False) as it:
        await it.commit("a.yaml")
        assert standing(it.status("one").conditions, ORPHANED) is not None
        assert standing(it.source().conditions, "Ready").status == "True"


EMPTYING = {
    "nothing at all": {},
    "YAML of others only": {"compose_yaml": "services: {}\n"},
    "only what stands around": {
        "d_yaml": "apiVersion: rondel/v1alpha1\nkind: Defaults\nmetadata: {name: d}\nspec: {}\n"
    },
    "only a file that can't be read": {"new_yaml": BROKEN},
}


@pytest.mark.parametrize("left", EMPTYING.values(), ids=EMPTYING)
async def test_a_source_in_which_no_workflow_is_left_retires_none(repository, controlled, left):
    repository.commit(a_yaml=manifest("one", "true", ON_CHANGE), b_yaml=manifest("two"))
    async with controlled() as it:
        await it.commit("a.yaml", "b.yaml", **left)
        assert await it.retired() == set()
        assert standing(it.source().conditions, "Ready").status == "False"
    async with controlled() as it:
        assert await it.retired() == set(), "nor over a restart"
        assert standing(it.source().conditions, "Ready").status == "False"
        await it.daemon._requests().run("ops", "one", {})
        await it.settled()
        assert (await it.runs("one"))[-1].phase is Phase.SUCCEEDED
        for path in left:
            (repository.folder / path.replace("_yaml", ".yaml")).unlink()
        await it.commit(b_yaml=manifest("two"))
        assert await it.retired() == {"one"}


async def test_a_source_that_may_be_empty_retires_all(repository, controlled):
    repository.commit(a_yaml=manifest("one"), b_yaml=manifest("two"))
    async with controlled(allow_empty=True) as it:
        await it.commit("a.yaml", "b.yaml")
        assert await it.retired() == {"one", "two"}
        assert standing(it.source().conditions, "Ready").status == "True"


async def test_a_folder_of_manifests_that_vanishes_retires_none_and_is_named(
    repository, controlled
):
    repository.commit(w__a_yaml=manifest("one"), elsewhere_yaml=manifest("two"))
    async with controlled(path="w") as it:
        repository.git("mv", "w", "moved")
        await it.commit()
        assert await it.retired() == set()
        assert "no workflow is left below w;" in standing(it.source().conditions, "Ready").message


async def test_a_folder_that_never_was_is_a_fault(repository, controlled):
    repository.commit(a_yaml=manifest("one"))
    async with controlled(path="worklfows") as it:
        assert "there is no folder worklfows" in standing(it.source().conditions, "Ready").message
        await it.commit(worklfows__b_yaml=manifest("two"))
        assert standing(it.source().conditions, "Ready").status == "True"


CALLING = (
    "apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {name: caller}\n"
    "spec: {steps: [{name: a, uses: {workflow: callee}}]}\n"
)


async def test_who_calls_a_workflow_follows_it_where_it_moves_and_is_told_when_it_is_gone(
    repository, controlled
):
    repository.commit(a_yaml=manifest("callee"), b_yaml=CALLING, keep_yaml=KEEP)
    async with controlled() as it:
        await it.commit("a.yaml", moved_yaml=manifest("callee"))
        assert it.ready("caller") == "True"
        await it.commit(moved_yaml=manifest("callee"), copy_yaml=manifest("callee", "false"))
        assert it.ready("callee").startswith("False")
        assert it.ready("caller") == "True", "the last valid one is called"
        await it.daemon._requests().run("ops", "caller", {})
        await it.settled()
        assert [run.phase for run in await it.runs("caller")] == [Phase.SUCCEEDED]
        await it.commit("moved.yaml", "copy.yaml")
        assert it.ready("caller").startswith("False b.yaml:1:1: /spec/steps: ")
        assert it.numbers("caller") == (1, 1)


async def test_without_prune_who_calls_an_orphan_goes_on(repository, controlled):
    repository.commit(a_yaml=manifest("callee"), b_yaml=CALLING)
    async with controlled(prune=False) as it:
        await it.commit("a.yaml")
        assert it.ready("caller") == "True"
        await it.daemon._requests().run("ops", "caller", {})
        await it.settled()
        assert [run.phase for run in await it.runs("caller")] == [Phase.SUCCEEDED]


async def test_a_copy_that_is_not_taken_puts_no_other_at_fault(repository, controlled):
    def limited(name: str, limit: int) -> str:
        return manifest(name, spec=f"  concurrency: {{group: g, limit: {limit}}}\n")

    repository.commit(a_yaml=limited("one", 2), b_yaml=limited("two", 2))
    async with controlled() as it:
        await it.commit(copy_yaml=limited("one", 5))
        assert it.ready("two") == "True"
        assert "declared in a.yaml and in copy.yaml" in it.ready("one")
        await it.commit("a.yaml")
        assert "limit" in it.ready("two"), "now it is taken"


# All or nothing.


async def test_an_atomic_source_applies_a_commit_whole_or_not_at_all(repository, tmp_path):
    one, two = (manifest(name, "true", ON_CHANGE) for name in ("one", "two"))
    first = repository.commit(a_yaml=one, b_yaml=two)
    better = manifest("one", "echo better", ON_CHANGE)
    with serving(tmp_path) as server:
        own = source(server.url("repository/.git"), "ops", atomic=True)
        async with daemon_of(tmp_path, own) as daemon:
            it = Controlled(daemon, repository)
            await it.settled()
            await it.commit(a_yaml=better, b_yaml=BROKEN)
            bad = repository.git("rev-parse", "HEAD")
            status = it.source()
            assert status.last_applied_revision == f"main@sha1:{first}"
            assert status.last_attempted_revision == f"main@sha1:{bad}"
            ready = standing(status.conditions, "Ready")
            assert (ready.status, ready.reason) == ("False", "NotApplied")
            assert "1 fault: b.yaml:2:" in ready.message
            assert (it.numbers("one"), it.ready("one"), it.ready("two")) == ((1, 1), "True", "True")
        async with daemon_of(tmp_path, own) as daemon:
            it = Controlled(daemon, repository)
            await it.settled()
            assert it.source().last_applied_revision == f"main@sha1:{first}", "nor over a restart"
            await it.daemon._requests().run("ops", "two", {})
            await it.settled()
            assert (await it.runs("two"))[-1].phase is Phase.SUCCEEDED
            await it.commit(README_md="no matter")
            assert it.numbers("one") == (1, 1)
            await it.commit(b_yaml=manifest("two", "echo mended", ON_CHANGE))
            assert (it.numbers("one"), it.numbers("two")) == ((2, 2), (2, 2))
            assert [len(await it.runs(name)) for name in ("one", "two")] == [2, 3]
            assert standing(it.source().conditions, "Ready").status == "True"
            assert standing(it.source().conditions, "Stalled") is None


# Two sources.


async def test_two_sources_that_read_the_same_manifests_say_so_until_one_is_gone(
    repository, tmp_path
):
    repository.commit(w__a_yaml=manifest("one"), x__b_yaml=manifest("two"))
    with serving(tmp_path) as server:
        url = server.url("repository/.git")
        sources = (
            source(url, "all"),
            source(url, "folder", path="w", ref=GitRef(branch="main")),
            source(url, "other", path="x"),
        )
        async with daemon_of(tmp_path, *sources) as daemon:
            it = Controlled(daemon, repository)
            told = {one: standing(it.source(one).conditions, SHARED) for one in ("all", "folder")}
            assert told["all"].message.startswith("read by folder, other, too: ")
            assert told["folder"].message.startswith("read by all, too: ")
            await daemon._following.remove("all")
            assert standing(it.source("folder").conditions, SHARED) is None
            assert standing(it.source("other").conditions, SHARED) is None


async def test_a_name_that_moves_to_another_source_is_another_workflow_there(repository, tmp_path):
    repository.commit(
        w__one_yaml=manifest("one", "true", ON_CHANGE), w__keep_yaml=KEEP, x__keep_yaml=KEEP
    )
    with serving(tmp_path) as server:
        url = server.url("repository/.git")
        sources = (source(url, "w", path="w"), source(url, "x", path="x"))
        async with daemon_of(tmp_path, *sources) as daemon:
            it = Controlled(daemon, repository)
            await it.settled()
            repository.git("mv", "w/one.yaml", "x/one.yaml")
            repository.commit()
            await it.look("w")
            await it.look("x")
            assert it.status("one", "w").retired
            assert not it.status("one", "x").retired
            assert (it.status("one", "x").generation, it.status("one", "x").change) == (1, 1)
            assert [len(await it.runs("one", name)) for name in "wx"] == [1, 1]
            assert standing(it.source("w").conditions, SHARED) is None
