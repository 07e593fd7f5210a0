"""Git LFS: objects pushed by the real git-lfs to a server, and fetched by a source from it."""

import asyncio
import base64
import hashlib
import json
import shutil
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from controller import manifest
from controller.errors import StalledError, TransientError
from controller.model.settings import GitAuth
from controller.model.workflow import Input
from tests.certificates import authority
from tests.git_over_ssh import needs_sshd, ssh_serving
from tests.source_places import Repository, following, git_source

pytestmark = pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
TOKEN = "t0ken-that-nobody-may-see"
MEDIA = "application/vnd.git-lfs+json"
DATA = Input(name="data", path="data")


class Lfs(ThreadingHTTPServer):
    """Git's dumb HTTP and the LFS batch API over one folder; counts what is asked of it."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        self.root = root
        self.objects: dict[str, bytes] = {}
        self.login = ""
        self.away = False  # the objects, not Git
        self.elsewhere = ""  # the address that objects are said to be at
        self.moved_to = ""  # where what is below /moved leads to
        self.asked: list[tuple[str, str, str]] = []  # method, path, Authorization

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def speak_tls(self, context: ssl.SSLContext) -> None:
        """Let in from now on whom `context` lets in."""
        self.scheme = "https"
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )

    def handle_error(self, request: object, address: object) -> None:
        """A client that isn't let in is no news; all else is."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, address)  # type: ignore[arg-type]  # as it was given


class Handler(BaseHTTPRequestHandler):
    server: Lfs

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        server, path = self.server, self.path.partition("?")[0]
        told = self.headers.get("Authorization", "")
        server.asked.append(("GET", path, told))
        if path.startswith("/moved/"):
            self.answer(302, Location=f"{server.moved_to}{path.removeprefix('/moved')}")
            return
        if "/objects-of-lfs/" in path:
            body = server.objects.get(path.rpartition("/")[2])
            self.answer(404) if body is None or server.away else self.answer(200, body)
            return
        file = server.root / path.lstrip("/")
        wanted = base64.b64encode(server.login.encode()).decode()
        if server.login and told != f"Basic {wanted}":
            self.answer(401, b"", **{"WWW-Authenticate": "Basic"})
        elif file.is_file():
            self.answer(200, file.read_bytes())
        else:
            self.answer(404)

    def do_POST(self) -> None:
        server = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        told = self.headers.get("Authorization", "")
        server.asked.append(("POST", self.path, told))
        wanted = base64.b64encode(server.login.encode()).decode()
        if server.away:
            self.answer(503)
        elif server.login and told != f"Basic {wanted}":
            self.answer(401)
        elif self.path.endswith("/info/lfs/objects/batch"):
            self.answer(200, self.batch(json.loads(body)), **{"Content-Type": MEDIA})
        else:
            self.answer(404)

    def batch(self, told: dict[str, Any]) -> bytes:
        way, base = told["operation"], self.server.elsewhere or self.server.url
        return json.dumps(
            {
                "transfer": "basic",
                "objects": [
                    {**one, "actions": {way: {"href": f"{base}/objects-of-lfs/{one['oid']}"}}}
                    if way == "upload" or one["oid"] in self.server.objects
                    else {**one, "error": {"code": 404, "message": "not here"}}
                    for one in told["objects"]
                ],
            }
        ).encode()

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.objects[self.path.rpartition("/")[2]] = body
        self.answer(200)


@pytest.fixture
def lfs(tmp_path):
    server = Lfs(tmp_path / "served")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Large(Repository):
    """A repository whose .bin and .yaml files are Git LFS's."""

    def publish(self, server: Lfs, **files: str) -> str:
        commit = self.commit(**files)
        bare = server.root / "ops.git"
        self.git("push", "--quiet", "--no-verify", "--force", str(bare), "HEAD:main")
        self.git("-c", f"lfs.url={server.url}/ops.git/info/lfs", "lfs", "push", server.url, "main")
        subprocess.run(["git", "-C", str(bare), "update-server-info"], check=True)
        return commit


@pytest.fixture
def repository(tmp_path, lfs):
    made = Large(tmp_path / "work")
    made.git("lfs", "install", "--local", "--skip-repo")
    made.git("lfs", "track", "*.bin", "*.yaml")
    bare = lfs.root / "ops.git"
    made.git("init", "--quiet", "--bare", "-b", "main", str(bare))
    return made


@pytest.fixture
def open_(tmp_path, lfs):
    def opened(url: str = "", **more: Any) -> Any:
        url = url or f"{lfs.url}/ops.git"
        return git_source(url, tmp_path / "state", **({"lfs": True} | more))

    return opened


def got(lfs: Lfs) -> list[str]:
    return [path for way, path, _ in lfs.asked if way == "GET" and "objects-of-lfs" in path]


async def test_a_manifest_and_a_declared_input_are_fetched_and_nothing_else(
    repository, lfs, open_, tmp_path
):
    repository.publish(
        lfs, a_yaml="kind: Workflow\n", **{"data__x.bin": "x" * 5000, "other__y.bin": "y" * 5000}
    )
    lfs.asked.clear()
    async with following(open_()) as source:
        snapshot = await source.snapshot()
        assert await source.source.read(snapshot, ["a.yaml"]) == {"a.yaml": b"kind: Workflow\n"}
        assert len(got(lfs)) == 1
        await source.source.materialise(snapshot.revision, DATA, tmp_path / "input")
        assert (tmp_path / "input" / "x.bin").read_text() == "x" * 5000
        await source.source.materialise(snapshot.revision, DATA, tmp_path / "again")
    assert len(got(lfs)) == 2
    assert not any(hashlib.sha256(b"y" * 5000).hexdigest() in path for path in got(lfs))


async def test_an_input_has_another_digest_than_its_pointers(repository, lfs, open_, tmp_path):
    repository.publish(lfs, **{"data__x.bin": "x" * 5000})
    digests = []
    for number, on in enumerate((True, False)):
        async with following(open_(lfs=on)) as source:
            revision = (await source.snapshot()).revision
            place = tmp_path / str(number)
            digests.append(await source.source.materialise(revision, DATA, place))
    assert digests[0] != digests[1]
    assert (tmp_path / "1" / "x.bin").read_text().startswith("version https://git-lfs")


async def test_without_lfs_a_pointer_is_a_fault_that_names_the_setting(repository, lfs, open_):
    repository.publish(lfs, a_yaml="kind: Workflow\n")
    async with following(open_(lfs=False)) as source:
        snapshot = await source.snapshot()
        data = (await source.source.read(snapshot, ["a.yaml"]))["a.yaml"]
    (fault,) = manifest.parse_file("a.yaml", data, source="there", blob="0").all_faults
    assert "lfs: true" in fault.remedy


async def test_the_login_of_the_source_is_sent_to_its_own_address_only(
    repository, lfs, open_, tmp_path
):
    repository.publish(lfs, a_yaml="kind: Workflow\n")
    lfs.login = f"x-access-token:{TOKEN}"
    lfs.asked.clear()

    async def secret(_: str) -> str:
        return TOKEN

    login = GitAuth(type="token", secret="token")
    async with following(open_(auth=login, secrets=secret)) as source:
        await source.snapshot()
    (batch,) = [told for way, _, told in lfs.asked if way == "POST"]
    assert batch.startswith("Basic ")
    (object_,) = [told for _, path, told in lfs.asked if "objects-of-lfs" in path]
    assert object_ == ""
    kept = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert TOKEN.encode() not in kept


async def test_an_outage_is_told_and_what_was_applied_keeps_working(
    repository, lfs, open_, tmp_path
):
    repository.publish(lfs, a_yaml="kind: Workflow\n", **{"data__x.bin": "x" * 5000})
    async with following(open_()) as source:
        first = await source.snapshot()
        await source.source.materialise(first.revision, DATA, tmp_path / "before")
        repository.publish(lfs, a_yaml="kind: Workflow\nname: second\n")
        lfs.away = True
        source.source.look()
        error = await source.next()
        assert isinstance(error, TransientError), error
        assert (error.reason, "Git LFS" in str(error)) == ("FetchFailed", True)
        await source.source.materialise(first.revision, DATA, tmp_path / "during")
        assert await source.source.read(first, ["a.yaml"])
        lfs.away = False
        source.source.look()
        assert (await source.snapshot()).revision != first.revision


async def test_an_lfsconfig_redirects_nothing_and_starts_nothing(repository, lfs, open_, tmp_path):
    mark = tmp_path / "mark"
    evil = tmp_path / "evil.sh"
    evil.write_text(f"#!/bin/sh\ntouch {mark}\n")
    evil.chmod(0o755)
    repository.publish(lfs, a_yaml="kind: Workflow\n")
    (repository.folder / ".lfsconfig").write_text(
        "[lfs]\n\turl = http://127.0.0.1:9/elsewhere\n\tstandalonetransferagent = evil\n"
        f'[lfs "customtransfer.evil"]\n\tpath = {evil}\n'
        f'[lfs "extension.evil"]\n\tsmudge = {evil}\n\tclean = {evil}\n\tpriority = 0\n'
        f'[credential]\n\thelper = !{evil}\n[remote "origin"]\n\tlfsurl = file:///etc\n'
    )
    off = (
        "-c",
        "filter.lfs.required=false",
        "-c",
        "filter.lfs.process=",
        "-c",
        "filter.lfs.clean=",
    )
    repository.git(*off, "add", ".lfsconfig")
    repository.git(*off, "commit", "--quiet", "-m", "evil")
    repository.git("push", "--quiet", "--no-verify", str(lfs.root / "ops.git"), "HEAD:main")
    repository.git("-C", str(lfs.root / "ops.git"), "update-server-info")
    async with following(open_()) as source:
        assert await source.source.read(await source.snapshot(), ["a.yaml"])
    assert not mark.exists()
    assert any(path == "/ops.git/info/lfs/objects/batch" for _, path, _ in lfs.asked)


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"kind: Wrongful\n", StalledError, "LfsObjectDamaged"),
        (b"kind: Workflow\n" + b"#" * 100_000, StalledError, "LfsObjectDamaged"),
        (b"kind", TransientError, "FetchFailed"),
    ],
)
async def test_bytes_that_are_not_the_object_are_not_taken(  # noqa: PLR0917 - fixtures
    repository, lfs, open_, body, kind, reason
):
    repository.publish(lfs, a_yaml="kind: Workflow\n")
    (oid,) = lfs.objects
    lfs.objects[oid] = body
    async with following(open_()) as source:
        error = await source.next()
    assert isinstance(error, kind), error
    assert error.reason == reason


async def test_an_object_that_nobody_pushed_is_named(repository, lfs, open_):
    repository.publish(lfs, a_yaml="kind: Workflow\n")
    lfs.objects.clear()
    async with following(open_()) as source:
        error = await source.next()
    assert isinstance(error, StalledError), error
    assert error.reason == "LfsObjectMissing"
    assert "a.yaml" in str(error)


@pytest.mark.parametrize("address", ["file:///etc", "http://192.0.2.1", "ftp://127.0.0.1"])
async def test_a_server_leads_to_no_path_and_no_clear_text(repository, lfs, open_, address):
    repository.publish(lfs, a_yaml="kind: Workflow\n")
    lfs.elsewhere = address
    async with following(open_()) as source:
        error = await source.next()
    assert isinstance(error, StalledError), error
    assert error.reason == "LfsUnavailable"


async def test_an_object_that_is_damaged_here_is_fetched_anew(repository, lfs, open_, tmp_path):
    repository.publish(lfs, **{"data__x.bin": "x" * 5000})
    async with following(open_()) as source:
        revision = (await source.snapshot()).revision
        await source.source.materialise(revision, DATA, tmp_path / "before")
        (kept,) = (tmp_path / "state").rglob(hashlib.sha256(b"x" * 5000).hexdigest())
        await asyncio.to_thread(kept.write_bytes, b"z" * 5000)
        await source.source.materialise(revision, DATA, tmp_path / "after")
    assert (tmp_path / "after" / "x.bin").read_text() == "x" * 5000


async def test_objects_of_a_repository_of_this_host_are_read_where_they_are(
    repository, open_, tmp_path
):
    repository.commit(**{"data__x.bin": "x" * 5000})
    async with following(open_(repository.url)) as source:
        revision = (await source.snapshot()).revision
        await source.source.materialise(revision, DATA, tmp_path / "input")
    assert (tmp_path / "input" / "x.bin").read_text() == "x" * 5000


async def test_what_nobody_works_with_is_let_go(repository, lfs, open_, tmp_path):
    repository.publish(lfs, a_yaml="kind: Workflow\n")
    async with following(open_()) as source:
        await source.snapshot()
        repository.publish(lfs, a_yaml="kind: Workflow\nname: second\n")
        source.source.look()
        await source.snapshot()
        there: Any = source.source
        depot = there._mirror.depot
        assert depot.prune(float("inf")) == 1
        assert len(list(depot.folder.glob("lfs/objects/*/*/*"))) == 1


async def test_only_objects_that_stand_in_some_tree_of_late_are_remembered(
    repository, lfs, open_, tmp_path
):
    async with following(open_()) as source:
        there: Any = source.source
        revisions = []
        for number in range(5):
            repository.publish(lfs, **{"data__x.bin": str(number) * 5000})
            there.look()
            revisions.append((await source.snapshot()).revision)
            if number == 2:
                await there.materialise(revisions[0], DATA, tmp_path / "old")
        assert len(there._large._known) == 1
        await there.materialise(revisions[1], DATA, tmp_path / "older")
    assert (tmp_path / "old" / "x.bin").read_text() == "0" * 5000
    assert (tmp_path / "older" / "x.bin").read_text() == "1" * 5000


async def test_a_hidden_file_is_no_manifest_and_is_not_fetched(repository, lfs, open_):
    repository.publish(
        lfs,
        a_yaml="kind: Workflow\n",
        **{".hidden__b.yaml": "kind: Hidden\n", "flows__.c.yaml": "kind: Draft\n"},
    )
    async with following(open_()) as source:
        await source.snapshot()
    assert len(got(lfs)) == 1


@pytest.fixture
def trust(tmp_path):
    return authority(tmp_path / "authority")


@pytest.fixture
def over_tls(lfs, trust):
    """Let the server speak TLS, and let in only whom our authority vouches for."""

    def call() -> dict[str, Any]:
        own = trust.issue("localhost")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=trust.cert)
        context.load_cert_chain(own.cert, own.key)
        context.verify_mode = ssl.CERT_REQUIRED
        lfs.speak_tls(context)
        return {"ca_file": trust.cert, "client_cert": trust.issue("client")}

    return call


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
async def test_an_authority_and_a_certificate_of_our_own_hold_for_objects_too(
    repository, lfs, open_, over_tls, tmp_path
):
    repository.publish(lfs, **{"data__x.bin": "x" * 5000})
    known = over_tls()
    async with following(open_(**known)) as source:
        revision = (await source.snapshot()).revision
        await source.source.materialise(revision, DATA, tmp_path / "input")
    assert (tmp_path / "input" / "x.bin").read_text() == "x" * 5000
    assert len(got(lfs)) == 1


async def test_objects_that_the_server_moved_are_followed_without_the_login(
    repository, lfs, open_, tmp_path
):
    repository.publish(lfs, **{"data__x.bin": "x" * 5000})
    other = Lfs(tmp_path / "nothing")
    other.objects = lfs.objects
    thread = threading.Thread(target=other.serve_forever)
    thread.start()
    lfs.login = f"x-access-token:{TOKEN}"
    lfs.elsewhere, lfs.moved_to = f"{lfs.url}/moved", other.url

    async def secret(_: str) -> str:
        return TOKEN

    try:
        async with following(
            open_(auth=GitAuth(type="token", secret="token"), secrets=secret)
        ) as source:
            revision = (await source.snapshot()).revision
            await source.source.materialise(revision, DATA, tmp_path / "input")
    finally:
        other.shutdown()
        thread.join()
        other.server_close()
    assert (tmp_path / "input" / "x.bin").read_text() == "x" * 5000
    assert [told for _, _, told in other.asked] == [""], "no login goes to another host"


@needs_sshd
async def test_over_ssh_the_host_says_where_objects_are_and_what_lets_us_in(
    repository, lfs, open_, tmp_path
):
    repository.publish(lfs, a_yaml="kind: Workflow\n")
    lfs.login = f"x-access-token:{TOKEN}"
    told = base64.b64encode(lfs.login.encode()).decode()
    answer = {"href": f"{lfs.url}/any/info/lfs", "header": {"Authorization": f"Basic {told}"}}
    programs = tmp_path / "programs"
    programs.mkdir()
    script = programs / "git-lfs-authenticate"
    script.write_text(f"#!/bin/sh\necho $1 $2 > {tmp_path}/asked\necho '{json.dumps(answer)}'\n")
    script.chmod(0o755)
    keys = tmp_path / "keys"
    keys.mkdir()
    with ssh_serving(keys, programs) as server:

        async def secret(_: str) -> str:
            return server.key.read_text()

        bare = lfs.root / "ops.git"
        more = {"auth": GitAuth(type="ssh", secret="key"), "known_hosts": str(server.known_hosts)}
        async with following(open_(server.url(bare), secrets=secret, **more)) as source:
            assert await source.source.read(await source.snapshot(), ["a.yaml"])
    assert (tmp_path / "asked").read_text().split() == [str(bare), "download"]
