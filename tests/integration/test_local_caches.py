"""Cache volumes on this host: folders that outlive their step, shared by key."""

import asyncio
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from controller.execute.local import LocalExecutor
from controller.execute.local.caches import Caches
from controller.execute.ports import CacheMount
from controller.execute.request import cache_scope
from controller.model.run import Phase
from controller.model.workflow import (
    Artifact,
    CacheSharing,
    CacheVolume,
    Input,
    Mount,
    Output,
    SecretUse,
)
from tests.engine_lab import lab, step, workflow

SHARED, LOCKED, PRIVATE = CacheSharing.SHARED, CacheSharing.LOCKED, CacheSharing.PRIVATE
ADD_ONE = "n=$(cat c/n 2>/dev/null || echo 0); sleep 0.1; echo $((n + 1)) > c/n"


@pytest.fixture
async def rig(tmp_path):
    async with lab(tmp_path, secrets={"t": "s3cr3t"}) as found:
        yield found


def cache(key="k", path="c", sharing=SHARED):
    return CacheVolume(key=key, path=path, sharing=sharing)


def folder(rig, key="k", source="s"):
    mount = CacheMount(key=key, path="c", scope=cache_scope(source))
    return rig.state_dir / "caches" / mount.identity


class Notes:
    def __init__(self):
        self.notes: list[str] = []

    def write(self, stream, data):
        raise AssertionError((stream, data))

    def note(self, text):
        self.notes.append(text)


async def test_what_a_step_leaves_there_is_there_again_also_when_it_failed(rig):
    caches = (cache(path="deep/er"),)
    await rig.execute(workflow(step("a", "echo 1 > deep/er/f; exit 1", caches=caches)))
    story = await rig.execute(workflow(step("b", "cat deep/er/f", caches=caches)))
    assert await story.text("b") == "1"
    assert folder(rig).stat().st_mode & 0o777 == 0o700


async def test_another_key_and_another_source_are_other_folders(rig):
    await rig.execute(workflow(step("a", "echo 1 > c/f", caches=(cache(),))))
    for caches, source in (((cache("other"),), "s"), ((cache(),), "t")):
        story = await rig.execute(
            workflow(step("a", "ls -A c; echo end", caches=caches)), source=source
        )
        assert await story.text("a") == "end"
    assert cache_scope("s", "branch:a") != cache_scope("s", "branch:b")


async def test_a_cache_hides_what_a_mount_put_there_and_leaves_the_mount_alone(rig, tmp_path):
    (tmp_path / "d").write_text("mounted")
    made = step(
        "a",
        "ls -A c; test ! -e c/d; echo 1 > c/f",
        mounts=(Mount(path="c/d", input="d"),),
        caches=(cache(),),
    )
    story = await rig.execute(workflow(made, inputs=(Input(name="d", path="d"),)))
    assert story.phase is Phase.SUCCEEDED, await story.text("a")
    assert [one.name for one in folder(rig).iterdir()] == ["f"]


async def test_a_cache_is_no_part_of_outputs_and_artifacts(rig):
    made = step(
        "a",
        "mkdir -p out; echo 1 > out/c/f; echo 2 > out/g; echo 3 > c/o",
        caches=(cache(path="out/c"), cache("other")),
        artifacts=(Artifact(name="all", path="out"),),
        outputs=(Output(name="o", path="c/o", default="none"),),
    )
    use = step(
        "b",
        "find x | sort",
        needs=("a",),
        mounts=(Mount(path="x", artifact="a.all"),),
    )
    story = await rig.execute(workflow(made, use))
    assert story.phase is Phase.SUCCEEDED, story.told()
    assert story.steps["a"].outputs == {"o": "none"}
    assert (await story.text("b")).split() == ["x", "x/c", "x/g"]
    assert (folder(rig) / "f").exists()


async def test_locked_steps_take_turns_and_shared_ones_do_not(rig):
    steps = [step(f"s{n}", ADD_ONE, caches=(cache(sharing=LOCKED),)) for n in range(4)]
    story = await rig.execute(workflow(*steps))
    assert story.phase is Phase.SUCCEEDED
    assert (folder(rig) / "n").read_text() == "4\n"
    meet = "touch c/{0}; while ! test -e c/{1}; do sleep 0.02; done"
    both = (
        step("a", meet.format("a", "b"), caches=(cache("m"),)),
        step("b", meet.format("b", "a"), caches=(cache("m"),)),
    )
    async with asyncio.timeout(20):
        assert (await rig.execute(workflow(*both))).phase is Phase.SUCCEEDED


async def test_a_private_cache_that_is_held_is_an_empty_one_of_ones_own(rig):
    await rig.execute(workflow(step("a", "echo 1 > c/f", caches=(cache(sharing=PRIVATE),))))
    assert (folder(rig) / "f").exists()
    holder = Caches(rig.state_dir)
    mount = CacheMount(key="k", path="c", scope=cache_scope("s"))
    async with holder.held([mount], Notes()):
        story = await rig.execute(
            workflow(step("a", "ls -A c; echo 2 > c/g", caches=(cache(sharing=PRIVATE),)))
        )
    assert await story.text("a") == ""
    assert not (folder(rig) / "g").exists()
    story = await rig.execute(workflow(step("a", "ls -A c", caches=(cache(sharing=PRIVATE),))))
    assert await story.text("a") == "f"


async def test_a_lock_holds_against_another_process(tmp_path):
    (tmp_path / "state").mkdir()
    caches, notes = Caches(tmp_path / "state"), Notes()
    mount = CacheMount(key="k", path="c", sharing=LOCKED, scope="s")
    async with caches.held([mount], notes) as held:
        lock = held[mount.identity].with_suffix(".json")
    code = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, 2); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"

        async def hold():
            async with caches.held([mount], notes):
                return

        task = asyncio.create_task(hold())
        await asyncio.sleep(0.2)
        assert not task.done()
        other.stdin.close()
        await task
    assert notes.notes == ["waiting for the cache 'k'"]
    assert lock.read_text() == '{"scope": "s", "key": "k"}'


async def test_a_step_that_waits_for_a_cache_can_be_cancelled(rig):
    mount = CacheMount(key="k", path="c", sharing=LOCKED, scope=cache_scope("s"))
    run = await rig.claimed()
    async with Caches(rig.state_dir).held([mount], Notes()):
        made = workflow(step("a", caches=(cache(),)))
        task = asyncio.create_task(rig.engine.execute(run, made))
        await asyncio.sleep(0.3)
        rig.engine.cancel(run.id)
        async with asyncio.timeout(10):
            await task
    assert (await rig.story(run.id)).told() == {"a": "Cancelled/Cancelled"}


async def test_a_waiting_locked_step_is_not_overtaken(tmp_path):
    (tmp_path / "state").mkdir()
    caches, order = Caches(tmp_path / "state"), []

    async def hold(name, sharing, until=None):
        async with caches.held([CacheMount(key="k", path="c", sharing=sharing)], Notes()):
            order.append(name)
            if until:
                await until.wait()

    first_ends = asyncio.Event()
    tasks = []
    for name, sharing, until in (
        ("first", SHARED, first_ends),
        ("locked", LOCKED, None),
        ("late", SHARED, None),
    ):
        tasks.append(asyncio.create_task(hold(name, sharing, until)))
        await asyncio.sleep(0.1)
    assert order == ["first"]
    first_ends.set()
    await asyncio.gather(*tasks)
    assert order == ["first", "locked", "late"]


@pytest.mark.parametrize(
    ("caches", "problem"),
    [
        ((cache(path="/root/.cache"),), "the cache path /root/.cache is absolute"),
        ((cache(path="."),), "the workspace itself"),
        ((cache(path="a"), cache("other", path="a/b")), "another cache path is inside"),
        ((cache(path="a"), cache("other", path="a")), "another cache path is inside"),
        ((cache(path="secrets"),), "a secret's file is inside"),
    ],
)
async def test_what_needs_dagger_is_refused_before_anything_runs(rig, caches, problem):
    uses = (SecretUse(secret="t", file="secrets/t"),)
    story = await rig.execute(workflow(step("a", caches=caches, secrets=uses), step("b")))
    assert (story.phase, story.run.reason) == (Phase.ERROR, "NeedsDagger")
    assert problem in story.run.message
    assert not story.attempts


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_another_user_has_its_caches_beside_the_state_directory(tmp_path):
    made = workflow(step("a", "echo 1 >> c/f; wc -l < c/f", caches=(cache(),)))
    executor = LocalExecutor(state_dir=tmp_path / "state", user="nobody")
    async with lab(tmp_path, executor=executor) as rig:
        passable(tmp_path, to_others=False)
        story = await rig.execute(made)
        assert story.told() == {"a": "Error/CacheUnreachable"}
        passable(tmp_path, to_others=True)
        try:
            stories = [await rig.execute(made) for _ in range(2)]
            assert [await story.text("a") for story in stories] == ["1", "2"]
        finally:
            passable(tmp_path, to_others=False)
    assert not (tmp_path / "state" / "caches").exists()


def passable(folder: Path, *, to_others: bool) -> None:
    """The folders of the test's own that lead to `folder`."""
    for one in (folder, *folder.parents):
        if one.name.startswith(("pytest-", "popen-", folder.name)):  # "popen-": a worker's
            one.chmod(0o711 if to_others else 0o700)


def long_unused(tmp_path, key):
    mount = CacheMount(key=key, path="c", scope="s")
    lock = tmp_path / "caches" / f"{mount.identity}.json"
    os.utime(lock, (0, 0))
    return mount, lock


async def used(caches, *keys):
    for key in keys:
        mounts = [CacheMount(key=key, path="c", scope="s")]
        async with caches.held(mounts, Notes()) as found:
            (place,) = found.values()
            (place / "deep").mkdir()
            (place / "deep" / "file").write_text("x")
            (place / "deep").chmod(0o500)


async def test_caches_that_were_long_unused_go_and_come_back_empty(tmp_path):
    caches = Caches(tmp_path)
    await used(caches, "old", "new")
    mount, lock = long_unused(tmp_path, "old")
    assert caches.prune(1000) == 1
    assert not lock.exists()
    assert not lock.with_suffix("").exists()
    assert len(list((tmp_path / "caches").glob("*.json"))) == 1
    async with caches.held([mount], Notes()) as found:
        assert list(found[mount.identity].iterdir()) == []
    assert caches.prune(1000) == 0


async def test_a_cache_in_use_is_never_pruned(tmp_path):
    caches = Caches(tmp_path)
    mount = CacheMount(key="k", path="c", scope="s")
    async with caches.held([mount], Notes()) as found:
        long_unused(tmp_path, "k")
        assert Caches(tmp_path).prune(1000) == 0
        assert found[mount.identity].is_dir()


async def test_whoever_waited_for_a_cache_that_was_pruned_meanwhile_gets_a_new_one(tmp_path):
    caches = Caches(tmp_path)
    mount = CacheMount(key="k", path="c", scope="s")
    async with caches.held([mount], Notes()):
        pass
    _, lock = long_unused(tmp_path, "k")
    pruner = os.open(lock, os.O_RDWR)
    fcntl.flock(pruner, fcntl.LOCK_EX)
    waiting = asyncio.ensure_future(caches._hold(mount, Notes()))
    await asyncio.sleep(0)
    lock.unlink()
    os.close(pruner)
    held = await waiting
    assert held is not None
    assert os.fstat(held).st_ino == lock.stat().st_ino
    os.close(held)
