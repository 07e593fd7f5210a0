"""What a folder's files were is kept over a restart, and never believed against the files."""

import json
from pathlib import Path

import pytest

from controller.source import files
from controller.source.files import Found
from controller.source.folder import Folder
from controller.source.memory import Memory
from tests.source_places import directory, following, put

STATE = "watched-state/sources/here.json"
TEXT = "kind: Workflow\n"


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    folder = tmp_path / "watched"
    put(folder / "a.yaml", TEXT)
    put(folder / "b" / "c.yaml", TEXT)
    settled(folder)
    return folder


async def looked_at(folder: Path) -> dict[str, str]:
    async with following(directory(folder)) as follower:
        snapshot = await follower.snapshot()
        return {path: entry.blob for path, entry in snapshot.entries.items()}


def settled(folder: Path) -> Folder:
    """Look as the source does, once the change times are old enough."""
    seen = Folder(folder, ())
    while not seen.known or any(one.signature is None for one in seen.known.values()):
        seen.look({""})
    return seen


def test_what_was_seen_comes_back_as_it_was(watched: Path, tmp_path: Path) -> None:
    seen, memory = settled(watched), Memory(tmp_path / "m.json", watched)
    memory.keep(seen.known)
    assert memory.recall() == dict(seen.known)


def test_a_start_reads_only_what_differs(
    watched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(tmp_path / "m.json", watched)
    memory.keep(settled(watched).known)
    read: list[str] = []
    really = files.hashed

    def hashed(root: Path, path: str, *rest: object) -> object:
        read.append(path)
        return really(root, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(files, "hashed", hashed)
    put(watched / "a.yaml", "kind: Other\n")
    later = Folder(watched, ())
    later.recall(memory.recall())
    while later.entries["a.yaml"].blob == memory.recall()["a.yaml"].entry.blob:  # type: ignore[union-attr]
        later.look({""})
    assert set(read) == {"a.yaml"}


async def test_a_change_while_nobody_looked_is_seen(watched: Path) -> None:
    before = await looked_at(watched)
    assert (watched.parent / STATE).exists()
    put(watched / "a.yaml", "kind: Other\n")
    (watched / "b" / "c.yaml").unlink()
    put(watched / "d.yaml", TEXT)
    after = await looked_at(watched)
    assert set(after) == {"a.yaml", "d.yaml"}
    assert after["a.yaml"] != before["a.yaml"]
    assert after["d.yaml"] == before["a.yaml"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"version": 1, "root": 7}'])
async def test_a_damaged_memory_costs_a_reading_only(watched: Path, text: str) -> None:
    before = await looked_at(watched)
    (watched.parent / STATE).write_text(text)
    assert await looked_at(watched) == before


async def test_the_memory_of_another_folder_is_not_taken(watched: Path) -> None:
    await looked_at(watched)
    kept = json.loads((watched.parent / STATE).read_text())
    kept["root"], kept["files"][0][2] = "/elsewhere", "0" * 40
    (watched.parent / STATE).write_text(json.dumps(kept))
    assert "0" * 40 not in (await looked_at(watched)).values()


def test_a_disk_that_cannot_take_it_stops_nothing(watched: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memory = Memory(tmp_path / "file" / "m.json", watched)
    memory.keep({"a.yaml": Found()})
    assert memory.recall() == {}
