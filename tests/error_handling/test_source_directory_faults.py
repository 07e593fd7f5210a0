"""What can be wrong with a folder: the last good state stays, and the condition says what it is."""

import asyncio
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from controller.digest import git_blob
from controller.errors import StalledError, TransientError
from controller.model.workflow import Input
from controller.source import watch
from tests.source_places import directory, following, put, write

NOBODY = 65534


async def test_a_folder_that_is_missing_is_told_once_and_found_when_it_comes(tmp_path):
    root = tmp_path / "later"
    async with following(directory(root)) as source:
        error = await source.next()
        assert isinstance(error, StalledError)
        assert error.reason == "SourceMissing"
        assert str(root) in str(error)
        assert await source.quiet(1.5)
        write(root, a_yaml="1")
        assert set((await source.snapshot()).entries) == {"a.yaml"}
        put(root / "b.yaml", "2")
        assert (await source.snapshot()).changed == frozenset({"b.yaml"})


async def test_a_folder_that_is_removed_and_comes_back_goes_on_from_its_last_good_state(tmp_path):
    root = tmp_path / "root"
    write(root, a_yaml="1", b_yaml="2")
    async with following(directory(root)) as source:
        first = await source.snapshot()
        root.rename(tmp_path / "away")
        error = await source.next()
        assert isinstance(error, StalledError)
        assert error.reason == "SourceMissing"
        write(root, a_yaml="1", b_yaml="3")
        back = await source.until(lambda one: one.changed == frozenset({"b.yaml"}))
        assert back.entries["a.yaml"] == first.entries["a.yaml"]
        put(root / "c.yaml", "new folder, new watch")
        assert (await source.snapshot()).changed == frozenset({"c.yaml"})


async def test_a_folder_that_comes_back_unchanged_still_says_that_it_is_back(tmp_path):
    root = tmp_path / "root"
    write(root, a_yaml="1")
    async with following(directory(root)) as source:
        first = await source.snapshot()
        root.rename(tmp_path / "away")
        assert isinstance(await source.next(), StalledError)
        (tmp_path / "away").rename(root)
        back = await source.snapshot()
    assert back.changed == frozenset()
    assert back.revision == first.revision


async def test_a_folder_replaced_by_another_of_its_name_is_watched_again(tmp_path):
    root = tmp_path / "current"
    write(tmp_path / "v1", a_yaml="1")
    write(tmp_path / "v2", a_yaml="2")
    root.symlink_to("v1")
    async with following(directory(root)) as source:
        await source.snapshot()
        (tmp_path / "next").symlink_to("v2")
        (tmp_path / "next").rename(root)
        assert (await source.snapshot()).entries["a.yaml"].blob == git_blob(b"2")
        put(tmp_path / "v2" / "a.yaml", "3")
        assert (await source.snapshot()).entries["a.yaml"].blob == git_blob(b"3")


async def test_a_file_in_the_folders_place_is_told(tmp_path):
    (tmp_path / "root").write_text("no folder")
    async with following(directory(tmp_path / "root")) as source:
        error = await source.next()
    assert isinstance(error, StalledError)
    assert error.problem == "is not a folder"


async def test_what_is_no_file_is_a_fault_of_that_path_alone(tmp_path):
    write(tmp_path, good_yaml="1")
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "out.yaml").symlink_to("/etc/hostname")
    (tmp_path / "up.yaml").symlink_to("../elsewhere.yaml")
    (tmp_path / "dangling.yaml").symlink_to("nothing.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "chain.yaml").symlink_to("good-link.yaml")
    (tmp_path / "good-link.yaml").symlink_to("good.yaml")
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind(str(tmp_path / "socket"))
        async with following(directory(tmp_path)) as source:
            first = await source.snapshot()
    assert set(first.entries) == {"good.yaml", "good-link.yaml"}
    faulty = [
        "chain.yaml",
        "dangling.yaml",
        "loop.yaml",
        "out.yaml",
        "pipe.yaml",
        "socket",
        "up.yaml",
    ]
    assert [fault.file for fault in first.faults] == faulty
    assert set(first.unreadable) == set(faulty)
    assert all(fault.problem and fault.remedy for fault in first.faults)


async def test_a_fault_is_told_when_it_comes_and_when_it_goes_and_not_in_between(tmp_path):
    write(tmp_path, a_yaml="1")
    async with following(directory(tmp_path)) as source:
        await source.snapshot()
        os.mkfifo(tmp_path / "pipe")
        assert [one.file for one in (await source.snapshot()).faults] == ["pipe"]
        source.source.look()
        assert await source.quiet()
        (tmp_path / "pipe").unlink()
        assert (await source.snapshot()).faults == ()


async def test_what_stood_below_a_folder_that_became_a_link_does_not_count_as_removed(tmp_path):
    write(tmp_path / "root", reports__a_yaml="1", b_yaml="2")
    root = tmp_path / "root"
    async with following(directory(root)) as source:
        first = await source.snapshot()
        (root / "reports").rename(tmp_path / "moved")
        (root / "reports").symlink_to(tmp_path / "moved")
        seen = await source.until(lambda one: one.faults)
        assert seen.entries == first.entries
        assert seen.unreadable == ("reports",)
        (root / "reports").unlink()
        gone = await source.until(lambda one: not one.faults)
        last = gone if "reports/a.yaml" not in gone.entries else await source.snapshot()
        assert set(last.entries) == {"b.yaml"}


async def test_a_name_that_is_not_utf8_is_a_fault_of_that_path_alone(tmp_path):
    write(tmp_path, a_yaml="1")
    (tmp_path / os.fsdecode(b"b\xff.yaml")).write_text("2")
    async with following(directory(tmp_path)) as source:
        first = await source.snapshot()
        assert set(first.entries) == {"a.yaml"}
        assert [one.problem for one in first.faults] == ["its name is not UTF-8"]
        first.faults[0].file.encode()


@pytest.fixture
def as_nobody():
    """A folder whose owner is not root: root reads what it likes."""
    root = Path(tempfile.mkdtemp(prefix="rondel-test-"))
    if os.geteuid() == 0:
        os.chown(root, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        yield root
        os.seteuid(0)
    else:
        yield root
    shutil.rmtree(root)


async def test_what_may_not_be_read_keeps_its_last_good_state(as_nobody):
    root = as_nobody
    write(root, a_yaml="1", closed__b_yaml="2", half__c_yaml="3", d_yaml="4")
    async with following(directory(root)) as source:
        first = await source.snapshot()
        (root / "closed").chmod(0)
        (root / "half").chmod(0o600)
        (root / "a.yaml").chmod(0)
        source.source.look()
        seen = await source.until(lambda one: len(one.faults) == 3)
        assert seen.entries == first.entries
        assert set(seen.unreadable) == {"a.yaml", "closed", "half/c.yaml"}
        put(root / "d.yaml", "5")
        seen = await source.until(lambda one: one.changed == frozenset({"d.yaml"}))
        assert set(seen.entries) == set(first.entries)
        with pytest.raises(TransientError) as caught:
            await source.source.materialise("", Input(name="i", path=""), root / "copy")
        assert caught.value.reason == "SourceUnavailable"
        for name in ("closed", "half"):
            (root / name).chmod(0o700)
        (root / "a.yaml").chmod(0o600)
        source.source.look()
        assert (
            await source.until(lambda one: not one.faults)
        ).entries.keys() >= first.entries.keys()


async def test_a_root_that_may_not_be_read_is_stalled_and_comes_back(as_nobody):
    root = as_nobody / "root"
    write(root, a_yaml="1")
    async with following(directory(root)) as source:
        await source.snapshot()
        root.chmod(0)
        source.source.look()
        error = await source.next()
        assert isinstance(error, StalledError)
        assert error.reason == "SourceUnreadable"
        root.chmod(0o700)
        assert (await source.snapshot()).changed == frozenset()


async def test_without_events_of_the_kernel_the_folder_is_polled(tmp_path, monkeypatch):
    def used_up(*_, **__):
        raise OSError("OS file watch limit reached.")

    # The one part that can't be had for real without taking it from everyone on this machine.
    monkeypatch.setattr(watch, "RustNotify", used_up)
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.1)
    write(tmp_path, a_yaml="1")
    async with following(directory(tmp_path)) as source:
        await source.snapshot()
        put(tmp_path / "a.yaml", "2")
        assert (await source.snapshot()).changed == frozenset({"a.yaml"})


async def test_following_ends_at_once_and_leaves_no_thread(tmp_path):
    import threading

    before = threading.active_count()
    for _ in range(3):
        async with following(directory(tmp_path)) as source:
            await source.snapshot()
    await asyncio.sleep(0)
    assert [one for one in threading.enumerate() if one.name == "watch"] == []
    assert threading.active_count() <= before + 6  # asyncio's own pool stays


async def test_a_file_that_is_being_written_at_the_start_is_waited_for(tmp_path):
    with (tmp_path / "a.yaml").open("w") as file:
        file.write("half")
        file.flush()
        async with following(directory(tmp_path)) as source:
            assert await source.quiet(0.2)
            file.write(" and half")
            file.close()
            first = await source.snapshot()
    assert first.entries["a.yaml"].blob == git_blob(b"half and half")
