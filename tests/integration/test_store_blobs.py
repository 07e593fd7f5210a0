"""Content kept by its sha256."""

import asyncio
import hashlib
import os
import stat
from datetime import UTC, datetime, timedelta

import pytest

from controller.errors import StalledError
from controller.store.blobs import BlobStore, Note


@pytest.fixture
def blobs(tmp_path):
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "made"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "deep" / "er" / "ö.txt").write_text("text")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / os.fsdecode(b"no-utf8-\xff")).write_bytes(b"\0\xff")
    return folder


def contents(root):
    """Every path below `root` with what it holds; folders are None."""
    return {
        path.relative_to(root): None
        if path.is_dir()
        else (path.read_bytes(), path.stat().st_mode & 0o111)
        for path in root.rglob("*")
    }


def files(blobs):
    return sorted(path for path in blobs.root.rglob("*") if path.is_file())


async def test_bytes_come_back_by_their_sha256(blobs):
    digest = await blobs.put(b"hello")
    assert digest == f"sha256:{hashlib.sha256(b'hello').hexdigest()}"
    assert await blobs.get(digest) == b"hello"
    assert blobs.noted(digest) == Note("file", 5)


async def test_the_same_bytes_are_kept_once_also_by_many_at_once(blobs):
    digests = await asyncio.gather(*(blobs.put(b"same") for _ in range(20)))
    assert len(set(digests)) == 1
    assert len(files(blobs)) == 1


async def test_two_stores_on_one_folder_agree(blobs):
    digest = await blobs.put(b"x")
    assert await BlobStore(blobs.root).get(digest) == b"x"


async def test_a_folder_comes_back_with_its_empty_folders_and_executables(blobs, folder, tmp_path):
    digest = await blobs.put_path(folder)
    await blobs.restore(digest, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)
    assert blobs.noted(digest).kind == "folder"


async def test_equal_folders_have_one_digest_whatever_their_times(blobs, folder):
    first = await blobs.put_path(folder)
    os.utime(folder / "run.sh", (1, 1))
    assert await blobs.put_path(folder) == first
    (folder / "run.sh").chmod(0o644)
    assert await blobs.put_path(folder) != first


async def test_an_empty_folder_comes_back_as_one(blobs, tmp_path):
    (tmp_path / "void").mkdir()
    await blobs.restore(await blobs.put_path(tmp_path / "void"), tmp_path / "back")
    assert (tmp_path / "back").is_dir()
    assert contents(tmp_path / "back") == {}


@pytest.mark.parametrize("mode", [0o644, 0o755])
async def test_a_file_keeps_whether_it_can_be_executed(blobs, tmp_path, mode):
    (tmp_path / "tool").write_text("x")
    (tmp_path / "tool").chmod(mode)
    await blobs.restore(await blobs.put_path(tmp_path / "tool"), tmp_path / "back")
    assert stat.S_IMODE((tmp_path / "back").stat().st_mode) & 0o111 == mode & 0o111


async def test_a_file_that_reads_like_a_folder_s_list_stays_a_file(blobs, folder, tmp_path):
    listing = await blobs.get(await blobs.put_path(folder))
    await blobs.restore(await blobs.put(listing), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == listing


async def test_a_large_file_is_streamed(blobs, tmp_path):
    import tracemalloc

    with (tmp_path / "large").open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    try:
        digest = await blobs.put_path(tmp_path / "large")
        await blobs.restore(digest, tmp_path / "back")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "back").stat().st_size == 64 << 20
    assert peak < 16 << 20


async def test_links_are_refused_by_name(blobs, folder, tmp_path):
    (folder / "deep" / "link").symlink_to("/etc/passwd")
    with pytest.raises(StalledError, match="no links") as caught:
        await blobs.put_path(folder)
    assert caught.value.reason == "ArtifactUnsupported"
    assert "deep/link" in str(caught.value)
    (tmp_path / "alias").symlink_to(folder / "run.sh")
    with pytest.raises(StalledError, match="no links"):
        await blobs.put_path(tmp_path / "alias")


async def test_a_fifo_is_refused_and_nobody_waits_for_its_writer(blobs, folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(StalledError, match="special files"):
        await blobs.put_path(folder)


async def test_a_path_that_is_not_there_is_unreadable(blobs, tmp_path):
    with pytest.raises(StalledError) as caught:
        await blobs.put_path(tmp_path / "none")
    assert caught.value.reason == "ArtifactUnreadable"


async def test_nothing_is_restored_over_what_exists(blobs, folder, tmp_path):
    (tmp_path / "there").write_text("mine")
    for digest in (await blobs.put(b"x"), await blobs.put_path(folder)):
        with pytest.raises(FileExistsError):
            await blobs.restore(digest, tmp_path / "there")
    assert (tmp_path / "there").read_text() == "mine"


async def test_a_missing_blob_is_said_to_be_missing(blobs, tmp_path):
    for digest in ("sha256:" + "0" * 64, "nonsense", "sha256:../../etc/passwd"):
        with pytest.raises(StalledError) as caught:
            await blobs.get(digest)
        assert caught.value.reason == "BlobMissing"
        with pytest.raises(StalledError):
            await blobs.restore(digest, tmp_path / "back")
    assert not (tmp_path / "back").exists()


async def test_a_damaged_blob_is_set_aside_and_can_be_kept_anew(blobs, tmp_path):
    digest = await blobs.put(b"good")
    blobs.path(digest).write_bytes(b"evil")
    with pytest.raises(StalledError, match="set aside") as caught:
        await blobs.get(digest)
    assert caught.value.reason == "BlobDamaged"
    assert (blobs.root / "damaged" / digest.removeprefix("sha256:")).read_bytes() == b"evil"
    assert await blobs.put(b"good") == digest
    assert await blobs.get(digest) == b"good"


async def test_of_a_damaged_folder_nothing_is_left_at_its_target(blobs, folder, tmp_path):
    digest = await blobs.put_path(folder)
    part = "sha256:" + hashlib.sha256(b"text").hexdigest()
    blobs.path(part).write_bytes(b"Text")
    with pytest.raises(StalledError) as caught:
        await blobs.restore(digest, tmp_path / "back")
    assert caught.value.reason == "BlobDamaged"
    assert not (tmp_path / "back").exists()


async def test_no_draft_is_left_behind(blobs, folder):
    await blobs.put_path(folder)
    await blobs.put(b"x")
    assert list((blobs.root / "tmp").iterdir()) == []


async def test_what_was_put_again_of_late_is_not_dropped(blobs):
    digest = await blobs.put(b"x")
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    os.utime(blobs.path(digest), (long_ago.timestamp(),) * 2)
    before = datetime.now(UTC) - timedelta(days=1)
    assert list(blobs.old(before)) == [digest]
    await blobs.put(b"x")
    assert list(blobs.old(before)) == []
    assert not blobs.drop(digest, before)
    assert await blobs.get(digest) == b"x"
    os.utime(blobs.path(digest), (long_ago.timestamp(),) * 2)
    assert blobs.drop(digest, before)
    assert not blobs.drop(digest, before)


async def test_what_was_verified_is_young_again_and_harm_is_found_inside_folders(blobs, folder):
    digest = await blobs.put_path(folder)
    for path in files(blobs):
        os.utime(path, (0, 0))
    await blobs.verify([digest])
    assert list(blobs.old(datetime.now(UTC) - timedelta(hours=1))) == []
    inside = next(iter(blobs.parts(digest)))
    blobs.path(inside).write_bytes(b"harm")
    with pytest.raises(StalledError) as caught:
        await blobs.verify([digest])
    assert caught.value.reason == "BlobDamaged"
    with pytest.raises(StalledError) as caught:
        await blobs.verify([digest])
    assert caught.value.reason == "BlobMissing"
