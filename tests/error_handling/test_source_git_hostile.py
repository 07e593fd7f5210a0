"""Repositories and remotes that mean harm: refused or harmless, with real git on both sides."""

import asyncio
import os
import resource
import subprocess
import threading
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from controller import manifest
from controller.errors import StalledError, TransientError, UsageError
from controller.model.settings import GitRef
from controller.model.source import Fault
from controller.model.workflow import Input
from controller.source import processes
from tests.source_places import Repository, following, git_source, put, serving

MIB = 1 << 20


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "repository")


@pytest.fixture
def open_(tmp_path):
    def open_source_(url: str, **more: Any) -> Any:
        return git_source(url, tmp_path / "state", **more)

    return open_source_


@pytest.fixture
def evil(tmp_path):
    """A program that leaves a mark when anything starts it."""
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\necho ran >> {tmp_path / 'mark'}\nexit 1\n")
    script.chmod(0o755)
    return script


def ran(tmp_path: Path) -> bool:
    return (tmp_path / "mark").exists()


def mirror_of(source: Any) -> Any:
    return source.source._mirror


# URLs and refs.


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c 'touch {mark}'",
        "--upload-pack=touch {mark}",
        "-u touch {mark}",
        "ssh://-oProxyCommand=touch${{IFS}}{mark}/x",
        "ssh://x@-oProxyCommand=touch/x",
        "git@-oProxyCommand=touch:x",
        "x@host:--upload-pack=touch",
        "fd::17/x",
        "git://127.0.0.1/x",
        "file://elsewhere/share",
        "http://git.example.com/x.git",
        "transport::address",
    ],
)
def test_urls_that_could_be_more_than_an_address_are_refused(open_, tmp_path, url):
    with pytest.raises(UsageError) as caught:
        open_(url.format(mark=tmp_path / "mark"))
    assert caught.value.where == "source there: url"


@pytest.mark.parametrize("local", [True, False])
async def test_a_ref_that_looks_like_an_option_is_a_ref(repository, open_, tmp_path, evil, local):
    commit = repository.commit(a="1")
    name = f"refs/heads/--upload-pack={evil.name}"
    repository.git("update-ref", name, commit)
    with serving(tmp_path) as server:
        url = repository.url if local else server.url("repository/.git")
        async with following(open_(url, ref=GitRef(name=name))) as source:
            assert (await source.snapshot()).revision == f"{name}@sha1:{commit}"
    assert not ran(tmp_path)


@pytest.mark.parametrize("tag", ["v9.9.9\u2028x", "v9.9.9\u00a0x", "v9.9.9;touch", "v9.9.9\u0085"])
@pytest.mark.parametrize("local", [True, False])
async def test_a_tag_with_an_odd_name_is_no_version(repository, open_, tmp_path, tag, local):
    commit = repository.commit(a="1")
    repository.git("tag", "v1.0.0")
    repository.git("tag", tag)
    with serving(tmp_path) as server:
        url = repository.url if local else server.url("repository/.git")
        async with following(open_(url, ref=GitRef(semver="*"))) as source:
            assert (await source.snapshot()).revision == f"v1.0.0@sha1:{commit}"


async def test_of_thousands_of_refs_only_the_wanted_one_is_fetched(repository, open_, tmp_path):
    commit = repository.commit(a="1")
    lines = [
        f"{commit} refs/{kind}/n{one}\n" for kind in ("heads", "tags") for one in range(10_000)
    ]
    versions = [f"{commit} refs/tags/v{one}.0.0\n" for one in range(3000)]
    packed = repository.folder / ".git" / "packed-refs"
    packed.write_text("".join(sorted([*lines, *versions], key=lambda line: line[41:])))
    with serving(tmp_path) as server:
        url = server.url("repository/.git")
        async with following(open_(url, ref=GitRef(branch="n77"))) as source:
            assert (await source.snapshot()).revision == f"n77@sha1:{commit}"
            refs = await mirror_of(source).git("for-each-ref")
            assert len(refs.splitlines()) == 2
        for place in (url, repository.url):
            async with following(open_(place, ref=GitRef(semver="<3000"))) as source:
                assert (await source.snapshot()).revision == f"v2999.0.0@sha1:{commit}"


# Remotes that lead elsewhere.


@contextmanager
def answering(answer: bytes, *, status: int = 200, **headers: str) -> Any:
    """Serve one answer to everything; yield its address and what was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET  # noqa: N815 - the server's name

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("scheme", ["file", "ext"])
async def test_a_remote_that_points_at_another_protocol_leads_nowhere(
    repository, open_, tmp_path, evil, scheme
):
    repository.commit(a="1")
    target = {"file": f"{repository.url}/.git/info/refs", "ext": f"ext::{evil}"}[scheme]
    with answering(b"", status=302, Location=target) as (address, _):
        async with following(open_(f"{address}/x.git")) as source:
            assert isinstance(await source.next(), StalledError | TransientError)
    assert not ran(tmp_path)


async def test_objects_are_not_had_from_where_a_remote_says_they_are(
    repository, open_, tmp_path, monkeypatch
):
    repository.commit(a="1")
    bare = tmp_path / "served" / "dumb.git"
    repository.git("clone", "--quiet", "--bare", ".", str(bare))
    Repository.git(repository, "--git-dir", str(bare), "update-server-info")
    for pack in [*bare.glob("objects/pack/*"), *bare.glob("objects/??/*")]:
        pack.unlink()
    with answering(b"", status=404) as (elsewhere, asked):
        (bare / "objects" / "info" / "http-alternates").write_text(
            f"{elsewhere}/secret.git/objects\n"
        )
        with files(bare.parent) as address:
            async with following(open_(f"{address}/dumb.git")) as source:
                assert isinstance(await source.next(), TransientError)
    assert asked == []


@contextmanager
def files(root: Path) -> Any:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_what_a_remote_says_can_not_write_to_a_terminal(open_):
    words = "ERR \x1b]0;owned\x07\x1b[2J fatal: \x9b31m all is well"
    line = f"{len(words.encode()) + 4:04x}{words}".encode()
    answer = b"001e# service=git-upload-pack\n0000" + line
    kind = "application/x-git-upload-pack-advertisement"
    with answering(answer, Content_Type=kind) as (address, _):
        async with following(open_(f"{address}/x.git")) as source:
            error = await source.next()
    assert "all is well" in str(error)
    assert all(one.isprintable() or one == "\n" for one in str(error))


# What a repository on this machine configures.


async def test_a_partial_clone_fetches_nothing_by_itself(repository, open_, tmp_path, evil):
    """Git gets a lacking object from the remote that the repository names, by its program."""
    commit = repository.commit(a="1")
    for name, value in {
        "core.repositoryformatversion": "1",
        "extensions.partialClone": "evil",
        "remote.evil.url": str(repository.folder),
        "remote.evil.uploadpack": str(evil),
        "remote.evil.promisor": "true",
        "remote.evil.partialclonefilter": "blob:none",
    }.items():
        repository.git("config", name, value)
    objects = repository.folder / ".git" / "objects"
    tree = repository.git("rev-parse", f"{commit}^{{tree}}")
    (objects / tree[:2] / tree[2:]).unlink()
    async with following(open_(repository.url)) as source:
        assert isinstance(await source.next(), StalledError | TransientError)
        (objects / commit[:2] / commit[2:]).unlink()
        source.source.look()
        assert isinstance(await source.next(), StalledError | TransientError)
        await asyncio.sleep(0.8)  # it is copied a moment later
    assert not ran(tmp_path)


async def test_a_repository_that_includes_and_borrows_is_read_and_runs_nothing(
    repository, open_, tmp_path, evil
):
    commit = repository.commit(a="1")
    extra = tmp_path / "extra.config"
    extra.write_text(f"[core]\n\tfsmonitor = {evil}\n\tsshCommand = {evil}\n\teditor = {evil}\n")
    repository.git("config", "include.path", str(extra))
    repository.git("config", "core.worktree", "/")
    repository.git("config", "core.attributesFile", str(extra))
    repository.git("config", "url.ext::sh.insteadOf", str(repository.folder))
    alternates = repository.folder / ".git" / "objects" / "info" / "alternates"
    alternates.write_text(f"/nonexistent\n{repository.folder}/.git/objects\n/proc/self/root\n")
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
        assert first.revision == f"main@sha1:{commit}"
        while not await mirror_of(source).keeps(commit):
            await asyncio.sleep(0.02)
    assert not ran(tmp_path)


async def test_attributes_and_filters_change_no_content(repository, open_, tmp_path, evil):
    put(repository.folder / "a.yaml", "one\ntwo $Id$\n")
    repository.commit()
    attributes = "* text eol=crlf ident filter=evil diff=evil merge=evil export-subst\n"
    repository.commit(**{".gitattributes": attributes})
    for name in ("filter.evil.smudge", "filter.evil.process", "diff.evil.textconv"):
        repository.git("config", name, str(evil))
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
        assert await source.source.read(first, ["a.yaml"]) == {"a.yaml": b"one\ntwo $Id$\n"}
        await source.source.materialise(first.revision, Input(name="i", path=""), tmp_path / "i")
    assert (tmp_path / "i" / "a.yaml").read_bytes() == b"one\ntwo $Id$\n"
    assert not ran(tmp_path)


async def test_an_encoding_for_work_trees_changes_no_content(repository, open_, tmp_path):
    text = "größe\n".encode()  # git keeps it so, and would write it as UTF-16
    (repository.folder / "a.yaml").write_bytes("größe\n".encode("utf-16"))
    repository.commit(**{".gitattributes": "*.yaml working-tree-encoding=UTF-16 text\n"})
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
        assert await source.source.read(first, ["a.yaml"]) == {"a.yaml": text}
        await source.source.materialise(first.revision, Input(name="i", path=""), tmp_path / "i")
    assert (tmp_path / "i" / "a.yaml").read_bytes() == text


def blob(repository: Repository, text: str) -> str:
    path = repository.folder.parent / "blob"
    path.write_text(text)
    return repository.git("hash-object", "-w", "--no-filters", str(path))


# Trees.


async def test_links_lead_nowhere_and_are_never_made(repository, open_, tmp_path):
    repository.commit(dir__a="1")
    links = {
        "etc": "/etc/passwd",
        "up": "../../../../etc/passwd",
        "dir/out": "../../outside",
        "loop": "loop",
        "folder": "dir",
        "through": "folder/a",
        "git": ".git/config",
        "nul": "dir/a\n/x",
        "inside": "dir/a",
    }
    for name, target in links.items():
        (repository.folder / name).symlink_to(target)
    (tmp_path / "outside").write_text("secret")
    repository.commit()
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
        assert set(first.entries) == {"dir/a", "inside"}
        assert {one.file for one in first.faults} == links.keys() - {"inside"}
        await source.source.materialise(first.revision, Input(name="i", path=""), tmp_path / "i")
    assert not any(one.is_symlink() for one in (tmp_path / "i").rglob("*"))


async def test_a_huge_link_is_a_fault_of_that_path_and_is_not_read_whole(
    repository, open_, tmp_path
):
    repository.commit(a="1")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(200 * MIB)
    words = ("-c", "core.bigFileThreshold=1m", "-c", "core.compression=1", "hash-object", "-w")
    huge = repository.git(*words, "--no-filters", str(tmp_path / "huge"))
    repository.git("update-index", "--add", "--cacheinfo", f"120000,{huge},link")
    repository.git("commit", "--quiet", "-m", "huge")
    before = peak()
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
    assert peak() - before < 32 * MIB
    assert set(first.entries) == {"a"}
    assert [fault.file for fault in first.faults] == ["link"]


async def test_submodules_of_local_paths_and_commands_are_left_alone(
    repository, open_, tmp_path, evil
):
    commit = repository.commit(a="1")
    put(
        repository.folder / ".gitmodules",
        f'[submodule "x"]\n\tpath = sub\n\turl = ext::{evil}\n\tupdate = !{evil}\n'
        f'[submodule "y"]\n\tpath = sub2\n\turl = /etc\n[submodule "../../z"]\n\tpath = -z\n\turl = -u{evil}\n',
    )
    for path in ("sub", "sub2", "-z"):
        repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    repository.git("add", ".gitmodules")
    repository.git("commit", "--quiet", "-m", "sub")
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
        assert set(first.entries) == {"a"}
        await source.source.materialise(first.revision, Input(name="i", path=""), tmp_path / "i")
    assert [one.name for one in (tmp_path / "i").iterdir()] == ["a"]
    assert not ran(tmp_path)


async def test_a_huge_file_is_a_fault_of_that_file_and_is_not_read_whole(
    repository, open_, tmp_path
):
    repository.commit(small_yaml="1")
    with (repository.folder / "x.yaml").open("wb") as file:
        file.truncate(200 * MIB)
    repository.git("-c", "core.bigFileThreshold=1m", "-c", "core.compression=1", "add", "x.yaml")
    repository.git("commit", "--quiet", "-m", "huge")
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
        before = peak()
        read = await source.source.read(first, ["x.yaml", "small.yaml"])
        assert peak() - before < 32 * MIB
    assert read["small.yaml"] == b"1"
    assert len(read["x.yaml"]) == MIB + 1
    parsed = manifest.parse_file("x.yaml", read["x.yaml"])
    assert [fault.file for fault in parsed.all_faults] == ["x.yaml"]


def peak() -> int:
    """Return the most memory that this process, and any that it waited for, has ever had."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_maxrss for one in usages) * 1024


def tree_of(repository: Repository, *lines: str) -> str:
    path = repository.folder.parent / "lines"
    path.write_text("".join(f"{line}\n" for line in lines))
    with path.open() as file:
        done = subprocess.run(
            ["git", "-C", str(repository.folder), "mktree"],
            stdin=file,
            check=True,
            capture_output=True,
        )
    return done.stdout.decode().strip()


async def test_a_tree_that_unfolds_without_end_is_refused_in_bounded_memory(
    repository, open_, tmp_path
):
    repository.commit(a="1")
    inner = tree_of(
        repository, *(f"100644 blob {blob(repository, 'x')}\tf{one}" for one in range(10))
    )
    for _ in range(9):  # ten to the tenth files
        inner = tree_of(repository, *(f"040000 tree {inner}\td{one}" for one in range(10)))
    bomb = repository.git("commit-tree", "-m", "bomb", "-p", "HEAD", inner)
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
        before = peak()
        repository.git("update-ref", "refs/heads/main", bomb)
        error = await source.next()
        assert isinstance(error, StalledError)
        assert error.reason == "TooLarge"
        assert peak() - before < 300 * MIB
        assert await source.source.read(first, ["a"]) == {"a": b"1"}
        commit = repository.git(
            "commit-tree", "-m", "ok", f"{first.revision.rpartition(':')[2]}^{{tree}}"
        )
        repository.git("update-ref", "refs/heads/main", commit)
        assert (await source.until(lambda one: commit in one.revision)).changed == frozenset()


async def test_a_hundred_thousand_files_are_a_source_like_any_other(repository, open_):
    file = blob(repository, "x")
    folder = tree_of(repository, *(f"100644 blob {file}\tf{one}" for one in range(1000)))
    many = tree_of(repository, *(f"040000 tree {folder}\td{one}" for one in range(100)))
    commit = repository.git("commit-tree", "-m", "many", many)
    repository.git("update-ref", "refs/heads/main", commit)
    async with following(open_(repository.url)) as source:
        before = peak()
        first = await source.snapshot()
        assert len(first.entries) == 100_000
        assert first.faults == ()
        assert peak() - before < 300 * MIB


async def test_folders_within_folders_end_as_a_fault_or_are_read(repository, open_, tmp_path):
    file = blob(repository, "x")
    tree = tree_of(repository, f"100644 blob {file}\tf")
    for _ in range(200):
        tree = tree_of(repository, f"040000 tree {tree}\td")
    far = tree
    for _ in range(100):
        far = tree_of(repository, f"040000 tree {far}\td")
    both = tree_of(repository, f"040000 tree {tree}\tnear", f"040000 tree {far}\tfar")
    commit = repository.git("commit-tree", "-m", "deep", both)
    repository.git("update-ref", "refs/heads/main", commit)
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
        assert set(first.entries) == {f"near/{'d/' * 200}f"}
        (fault,) = first.faults
        assert (fault.file[:4], fault.problem) == ("far/", "it is over 250 folders deep")
        await source.source.materialise(
            first.revision, Input(name="i", path="near"), tmp_path / "i"
        )
    assert (tmp_path / "i" / ("d/" * 200) / "f").read_text() == "x"


async def test_a_name_that_no_disk_takes_is_a_fault_of_that_path_alone(repository, open_):
    file = blob(repository, "x")
    deep = tree_of(repository, f"100644 blob {file}\tf")
    for _ in range(20):
        deep = tree_of(repository, f"040000 tree {deep}\t{'d' * 200}")
    root = tree_of(
        repository,
        f"100644 blob {file}\t{'n' * 300}.yaml",
        f"100644 blob {file}\ta",
        f"040000 tree {deep}\tdeep",
    )
    repository.git("update-ref", "refs/heads/main", repository.git("commit-tree", "-m", "x", root))
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
    assert set(first.entries) == {"a"}
    assert [one.problem for one in first.faults] == ["its name is too long"] * 2


async def test_names_that_differ_in_case_or_composition_only_are_different_files(
    repository, open_, tmp_path
):
    names = ["a.yaml", "A.yaml", "dir/x", "DIR/x", "\u00e9", "e\u0301", "\ufb01", "fi"]
    root = repository.folder
    for name in names:
        put(root / name, name)
    repository.git("config", "core.precomposeUnicode", "false")
    repository.commit()
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
        assert set(first.entries) == set(names)
        await source.source.materialise(first.revision, Input(name="i", path=""), tmp_path / "i")
    assert {name: (tmp_path / "i" / name).read_text() for name in names} == {
        name: name for name in names
    }


async def test_names_in_odd_encodings_and_with_control_characters_are_names_or_faults(
    repository, open_, tmp_path
):
    odd = ["\x1b[2J.yaml", "a\rb", "\u202egnp.yaml", "a\u2028b", "\x7f", " ", "a\tb\nc"]
    for name in odd:
        put(repository.folder / name, "x")
    for raw in (b"latin\xe9.yaml", b"\xff\xfe", b"dir/\xc0\xaf", b"\xed\xa0\x80"):
        path = Path(os.fsdecode(bytes(repository.folder) + b"/" + raw))
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    repository.commit()
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
        assert set(first.entries) == set(odd)
        assert {one.problem for one in first.faults} == {"its name is not UTF-8"}
        assert len(first.faults) == 4
        await source.source.materialise(first.revision, Input(name="i", path=""), tmp_path / "i")
    assert all(str(one).isprintable() for one in first.faults)
    assert str(Fault(file="\x1b[2J.yaml\n", line=1, column=1, problem="x")).isprintable()


async def test_patterns_made_to_match_slowly_are_refused(repository, open_):
    name = "a" * 250
    put(repository.folder / ".rondelignore", "*a*a*a*a*a*a*a*a*a*b\n" + "(a+)+$\n" + "*a*a*b\n")
    (repository.folder / name).write_text("x")
    repository.commit()
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
    assert set(first.entries) == {name}
    assert [one.line for one in first.faults] == [1]


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder away takes root")
async def test_a_git_file_that_leads_to_another_users_repository_is_not_followed(
    repository, open_, tmp_path
):
    repository.commit(a="1")
    pointing = tmp_path / "pointing"
    pointing.mkdir()
    (pointing / ".git").write_text(f"gitdir: {repository.folder}/.git\n")
    os.chown(repository.folder / ".git", 65534, 65534)
    async with following(open_(pointing.as_uri())) as source:
        error = await source.next()
    assert isinstance(error, StalledError)
    assert error.reason == "NotTrusted"


@pytest.mark.parametrize("ending", ["too much", "too late", "cancelled"])
async def test_a_command_whose_output_nobody_reads_to_the_end_ends(
    repository, tmp_path, monkeypatch, ending
):
    """A full pipe keeps asyncio from seeing a process's end, unless somebody empties it."""
    (repository.folder / "big").write_bytes(os.urandom(3 * MIB))
    repository.git("add", "big")
    words = ["cat-file", "blob", repository.git("rev-parse", ":big")]
    folder = repository.folder / ".git"
    if ending == "too much":
        monkeypatch.setattr(processes, "MOST_OUTPUT", 1000)
    for number in range(20):
        async with asyncio.timeout(20):
            if ending == "cancelled":
                asking = asyncio.ensure_future(processes.git(words, folder=folder, seconds=20))
                await asyncio.sleep(0.001 * number)
                asking.cancel()
                await asyncio.wait([asking])
                continue
            seconds = 20 if ending == "too much" else 0.0005 * number
            with pytest.raises((StalledError, TransientError)):
                await processes.git(words, folder=folder, seconds=seconds)
                raise TransientError("it was quick enough", reason="Quick")
