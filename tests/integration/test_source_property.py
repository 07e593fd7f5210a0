"""Whatever is done to a folder, Rondel names its files as git does."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from controller.source.folder import Folder
from tests.source_places import AS_TESTER, put

NAMES = ["a.yaml", "b", "sub", "sub/a.yaml", "sub/deep", "sub/deep/c", "é/ü.yaml", "x y"]
EDITS = st.tuples(
    st.sampled_from(["put", "in place", "remove", "rename", "mode", "link"]),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.sampled_from(["", "one", "two", "three\n" * 50]),
)


def edit(root: Path, kind: str, name: str, other: str, text: str) -> set[str]:
    """Do one edit if it can be done; return the places it may have touched."""
    place, target = root / name, root / other
    try:
        match kind:
            case "put":
                put(place, text)
            case "in place":
                place.write_text(text)
            case "remove" if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            case "remove":
                place.unlink()
            case "rename":
                place.rename(target)
            case "mode":
                place.chmod(0o755 if place.is_file() and len(text) > 3 else 0o644)
            case "link":
                place.symlink_to(os.path.relpath(target, place.parent))
    except OSError:
        pass
    names = {name, other, through_links(root, place)}
    return {*names, *(str(Path(one).parent) for one in names if "/" in one)}


def through_links(root: Path, place: Path) -> str:
    """Return what is written to at `place`: the kernel tells of a link's target, not of the link."""
    end, top = Path(os.path.realpath(place)), Path(os.path.realpath(root))  # also in a circle
    return str(end.relative_to(top)) if end.is_relative_to(top) else ""


def git(root: Path, *words: str) -> str:
    env = {**os.environ, **AS_TESTER, "GIT_DIR": str(root.parent / "git")}
    done = subprocess.run(
        ["git", "-c", "core.quotePath=false", f"--work-tree={root}", *words],
        env=env, check=True, capture_output=True, text=True, cwd=root,
    )  # fmt: skip
    return done.stdout


def tree(root: Path) -> dict[str, tuple[str, str]]:
    """Return what git says of this work tree; links are resolved as sources do."""
    git(root, "add", "--all", "--force")
    listed = git(root, "ls-tree", "-r", "-z", git(root, "write-tree").strip()).split("\0")
    parts = [
        line.split("\t", 1) for line in listed if line and "\t." not in line and "/." not in line
    ]
    found = {path: (head.split()[0], head.split()[2]) for head, path in parts}
    links = [path for path, (mode, _) in found.items() if mode == "120000"]
    files = {path: one for path, one in found.items() if path not in links}
    for path in links:
        inside = os.path.normpath(Path(path).parent / (root / path).readlink())
        if inside in files:
            found[path] = files[inside]
        else:
            del found[path]
    return found


def settle(folder: Folder, places: set[str]) -> None:
    folder.look(places)
    while folder.settling.paths:
        time.sleep(0.005)
        folder.look(folder.settling.paths)


@settings(max_examples=40, deadline=None)
@given(
    batches=st.lists(st.lists(EDITS, min_size=1, max_size=6), min_size=1, max_size=5),
    hinted=st.booleans(),
)
@example(batches=[[("link", "b", "a.yaml", "")], [("in place", "b", "b", "")]], hinted=True)
def test_a_folder_after_any_edits_is_what_git_would_commit(batches, hinted):
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        git(root, "init", "--quiet")
        folder = Folder(root, ())
        settle(folder, {""})
        for batch in batches:
            before = folder.entries
            places: set[str] = set()
            for one in batch:
                places |= edit(root, *one)
            settle(folder, places if hinted else {""})
            kept = set(folder.unreadable)  # what a fault hides stays as it was
            hidden = {
                path
                for path in folder.entries
                if any(path == one or path.startswith(one + "/") for one in kept)
            }
            assert {p: tuple(e) for p, e in folder.entries.items() if p not in hidden} == {
                p: e for p, e in tree(root).items() if p not in hidden
            }
            assert all(folder.entries[path] == before.get(path) for path in hidden)
            fresh = Folder(root, ())
            settle(fresh, {""})
            if not hidden:
                assert fresh.digest() == folder.digest()
