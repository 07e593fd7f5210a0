"""Logins at real servers: Git over TLS with a client's certificate, Git over SSH; nothing leaks."""

import asyncio
import contextlib
import ssl
import subprocess
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.errors import StalledError
from controller.model.settings import GitAuth
from controller.source.mirrors import Mirrors
from tests.certificates import authority
from tests.git_over_ssh import needs_sshd, ssh_serving
from tests.signing import ssh_key
from tests.source_places import Repository, following, git_source, serving

TOKEN = "ghp_a-token-that-nobody-may-see"


@pytest.fixture
def repository(tmp_path):
    made = Repository(tmp_path / "repository")
    made.commit(a="1")
    return made


@pytest.fixture
def trust(tmp_path):
    return authority(tmp_path / "authority")


@pytest.fixture
def server(tmp_path, repository, trust):
    """Git over TLS that lets in whom our authority vouches for, with a login."""
    own = trust.issue("localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=trust.cert)
    context.load_cert_chain(own.cert, own.key)
    context.verify_mode = ssl.CERT_REQUIRED
    with serving(repository.folder.parent, context) as made:
        made.login = f"x-access-token:{TOKEN}"
        yield made


@pytest.fixture
def open_(tmp_path, server, trust):
    """Open the server's repository with a token, our authority and a certificate, or other ones."""

    def opened(token=TOKEN, **more):
        async def secret(_: str) -> str:
            return str(token)

        fields = {
            "auth": GitAuth(type="token", secret="token"),
            "ca_file": trust.cert,
            "client_cert": trust.issue("client"),
        }
        url = server.url("repository/.git")
        return git_source(url, tmp_path / "state", secrets=secret, **(fields | more))

    return opened


async def refused(source, reason: str) -> str:
    async with following(source) as follower:
        error = await follower.next()
        assert isinstance(error, StalledError), error
        assert error.reason == reason, error
        assert TOKEN not in str(error)
        return str(error)


async def test_a_token_and_a_clients_certificate_let_us_in(open_):
    async with following(open_()) as source:
        assert set((await source.snapshot()).entries) == {"a"}


async def test_a_wrong_token_is_told_without_it(open_):
    said = await refused(open_(token="wrong"), "AuthFailed")
    assert "the server asks for a login, or refuses the one it was given; check `auth`" in said


async def test_without_the_authority_the_server_is_not_known(open_):
    assert "caFile" in await refused(open_(ca_file=None), "CertificateUnknown")


async def test_without_a_certificate_the_server_lets_nobody_in(open_, server):
    async with following(open_(client_cert=None)) as source:
        error = await source.next()
        assert isinstance(error, Exception)
        assert server.requests == []


async def test_files_that_are_not_there_are_named(open_, trust):
    assert "caFile: /none: No such file" in await refused(open_(ca_file="/none"), "FileUnreadable")


async def test_a_certificates_key_with_a_passphrase_is_refused(open_, trust):
    files = trust.issue("other", passphrase="open sesame")
    assert "clientCert.key" in await refused(open_(client_cert=files), "KeyProtected")


async def test_a_basic_login_has_a_name(open_, server):
    server.login = f"alice:{TOKEN}"
    auth = GitAuth(type="basic", secret="token", username="alice")
    async with following(open_(auth=auth)) as source:
        assert set((await source.snapshot()).entries) == {"a"}


async def test_a_secret_stands_in_no_argument_and_in_no_file_that_stays(open_, tmp_path, server):
    server.answering.clear()
    async with following(open_()) as source:
        await asyncio.to_thread(server.withheld.wait, 20)
        seen = arguments()
        assert any("remote-https" in one for one in seen)
        assert not [one for one in seen if TOKEN in one]
        server.answering.set()
        await source.snapshot()
    assert not [path for path in files(tmp_path / "state") if TOKEN.encode() in path.read_bytes()]


def arguments() -> list[str]:
    """Return the command lines of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            found.append(path.read_bytes().decode("utf-8", "replace"))
    return found


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_what_a_kill_leaves_of_a_login_is_removed_at_the_next_start(tmp_path):
    left = tmp_path / "mirrors" / ".login-x"
    left.mkdir(parents=True)
    (left / "identity").touch()
    (tmp_path / "mirrors" / "mirror").mkdir()
    Mirrors(tmp_path, SystemClock()).forget_logins()
    assert [one.name for one in (tmp_path / "mirrors").iterdir()] == ["mirror"]


# Over SSH.


@pytest.fixture
def sshd(tmp_path):
    place = tmp_path / "sshd"
    place.mkdir()
    with ssh_serving(place) as made:
        yield made


@pytest.fixture
def over_ssh(tmp_path, repository, sshd):
    def opened(key=None, known_hosts=None):
        async def secret(_: str) -> str:
            return Path(key or sshd.key).read_text()

        return git_source(
            sshd.url(repository.folder),
            tmp_path / "state",
            secrets=secret,
            auth=GitAuth(type="ssh", secret="key"),
            known_hosts=str(known_hosts or sshd.known_hosts),
        )

    return opened


@needs_sshd
async def test_an_ssh_key_lets_us_in_and_stays_nowhere(over_ssh, sshd, tmp_path):
    async with following(over_ssh()) as source:
        assert set((await source.snapshot()).entries) == {"a"}
    secret = sshd.key.read_bytes().splitlines()[2]
    assert not [path for path in files(tmp_path / "state") if secret in path.read_bytes()]


@needs_sshd
async def test_another_ssh_key_is_refused(over_ssh, tmp_path):
    said = await refused(over_ssh(key=ssh_key(tmp_path / "other")), "AuthFailed")
    assert "Permission denied (publickey); " in said.replace(".", "")  # ssh's line end is no "?"


@needs_sshd
async def test_a_secret_that_is_no_key_is_told_so(over_ssh, tmp_path):
    (tmp_path / "no-key").write_text("s3cret-word\n")
    said = await refused(over_ssh(key=tmp_path / "no-key"), "AuthFailed")
    assert "auth: the secret holds no private key; " in said
    assert "s3cret" not in said


@needs_sshd
async def test_a_host_that_is_not_known_is_refused(over_ssh, tmp_path):
    (tmp_path / "nobody").touch()
    await refused(over_ssh(known_hosts=tmp_path / "nobody"), "HostKeyUnknown")


@needs_sshd
@pytest.mark.parametrize("form", [(), ("-m", "PEM")])
async def test_an_ssh_key_with_a_passphrase_is_refused(over_ssh, tmp_path, form):
    key = tmp_path / "protected"
    words = ("-q", "-t", "rsa", "-b", "2048", "-N", "open sesame", *form)
    subprocess.run(["ssh-keygen", *words, "-f", str(key)], check=True)
    assert "passphrase" in await refused(over_ssh(key=key), "KeyProtected")
