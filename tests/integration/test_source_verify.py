"""Commits and tags are applied when an allowed key signed them: real gpg, real ssh-keygen."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.errors import UnverifiedError
from controller.model.settings import GitRef, Verify
from controller.source.gpg import judged
from tests.signing import (
    by_gpg,
    by_ssh,
    gpg_home,
    needs_gpg,
    needs_ssh,
    public,
    signed_commit,
    ssh_key,
)
from tests.source_places import Repository, following, git_source, serving

SHORT = "/tmp"


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "repository")


@pytest.fixture
def gpg():
    with tempfile.TemporaryDirectory(dir=SHORT) as place, gpg_home(Path(place, "g")) as home:
        yield home


@pytest.fixture
def alice(tmp_path):
    return ssh_key(tmp_path / "alice")


@pytest.fixture
def signers(tmp_path, alice):
    file = tmp_path / "allowed_signers"
    file.write_text(f"alice@example.com {public(alice)}\n")
    return file


@pytest.fixture
def open_(tmp_path, repository):
    def opened(*keys, mode="HEAD", url="", applied="", **more):
        verify = Verify(mode=mode, keys=tuple(map(str, keys)))
        where = url or repository.url
        return git_source(where, tmp_path / "state", verify=verify, applied=applied, **more)

    return opened


async def refused(source, reason: str) -> str:
    error = await source.next()
    assert isinstance(error, UnverifiedError), error
    assert error.reason == reason, error
    return str(error)


@needs_gpg
@pytest.mark.parametrize("local", [True, False])
async def test_what_gpg_signed_is_applied_and_what_nobody_signed_is_not(
    repository, open_, gpg, tmp_path, local
):
    key = gpg.key("Alice")
    file = gpg.export(tmp_path / "alice.asc", key)
    first = signed_commit(repository, by_gpg(gpg, key), a_yaml="1")
    with serving(repository.folder.parent) as server:
        url = repository.url if local else server.url("repository/.git")
        async with following(open_(file, url=url)) as source:
            snapshot = await source.snapshot()
            assert snapshot.revision == f"main@sha1:{first}"
            assert snapshot.signer == f"Alice <alice@example.com> (key {key})"
            second = repository.commit(a="2")
            source.source.look()
            assert f"commit {second} is not signed" in await refused(source, "NoSignature")
            assert source.source.attempted() == f"main@sha1:{second}"
            assert await source.source.read(snapshot, ["a.yaml"]) == {"a.yaml": b"1"}
            repository.git("reset", "--hard", "--quiet", first)
            source.source.look()
            assert (await source.snapshot()).revision == f"main@sha1:{first}"


@needs_ssh
async def test_what_ssh_signed_is_applied_under_its_principal(repository, open_, alice, signers):
    first = signed_commit(repository, by_ssh(alice), a_yaml="1")
    async with following(open_(signers)) as source:
        snapshot = await source.snapshot()
        assert snapshot.revision == f"main@sha1:{first}"
        assert snapshot.signer.startswith("alice@example.com (ED25519 key SHA256:")


@needs_ssh
async def test_a_bare_public_key_signs_under_its_files_name(repository, open_, alice):
    signed_commit(repository, by_ssh(alice), a_yaml="1")
    async with following(open_(f"{alice}.pub")) as source:
        assert (await source.snapshot()).signer.startswith("alice (ED25519 key SHA256:")


@needs_gpg
async def test_another_gpg_key_is_named_and_refused(repository, open_, gpg, tmp_path):
    file = gpg.export(tmp_path / "alice.asc", gpg.key("Alice"))
    mallory = gpg.key("Mallory")
    signed_commit(repository, by_gpg(gpg, mallory), a_yaml="1")
    async with following(open_(file)) as source:
        assert mallory in await refused(source, "UnknownKey")


@needs_ssh
async def test_another_ssh_key_is_named_and_refused(repository, open_, signers, tmp_path):
    mallory = ssh_key(tmp_path / "mallory")
    signed_commit(repository, by_ssh(mallory), a_yaml="1")
    listed = subprocess.run(
        ["ssh-keygen", "-lf", f"{mallory}.pub"], capture_output=True, text=True, check=True
    )
    async with following(open_(signers)) as source:
        assert listed.stdout.split()[1] in await refused(source, "UnknownKey")


@needs_gpg
async def test_a_gpg_key_that_has_expired_is_told(repository, open_, gpg, tmp_path):
    key = gpg.key("Alice", expires="2d", at="20200101T000000")
    file = gpg.export(tmp_path / "alice.asc", key)
    signed_commit(repository, by_gpg(gpg, key, at="20200102T000000"), a_yaml="1")
    async with following(open_(file)) as source:
        assert "Alice <alice@example.com>" in await refused(source, "KeyExpired")


@needs_gpg
async def test_a_gpg_key_that_was_revoked_is_told(repository, open_, gpg, tmp_path):
    key = gpg.key("Alice")
    signed_commit(repository, by_gpg(gpg, key), a_yaml="1")
    gpg.revoke(key)
    file = gpg.export(tmp_path / "alice.asc", key)
    async with following(open_(file)) as source:
        assert "Alice <alice@example.com>" in await refused(source, "KeyRevoked")


@needs_ssh
async def test_an_ssh_key_may_sign_until_its_line_says_it_may_not(
    repository, open_, alice, tmp_path
):
    signed_commit(repository, by_ssh(alice), a_yaml="1")
    signers = tmp_path / "signers"
    signers.write_text(f'alice@example.com valid-before="20300101" {public(alice)}\n')
    async with following(open_(signers)) as source:
        assert (await source.snapshot()).signer.startswith("alice@example.com")
    signers.write_text(f'alice@example.com valid-before="20200101" {public(alice)}\n')
    async with following(open_(signers)) as source:
        await refused(source, "UnknownKey")  # it was over before it signed


@needs_ssh
async def test_an_ssh_key_that_was_good_when_it_signed_has_expired(
    repository, open_, alice, tmp_path, monkeypatch
):
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2019-06-01T00:00:00Z")
    signed_commit(repository, by_ssh(alice), a_yaml="1")
    signers = tmp_path / "signers"
    signers.write_text(f'alice@example.com valid-before="20200101" {public(alice)}\n')
    async with following(open_(signers)) as source:
        assert "alice@example.com" in await refused(source, "KeyExpired")


@needs_ssh
async def test_an_ssh_key_on_a_list_of_revoked_keys_is_told(
    repository, open_, alice, signers, tmp_path
):
    signed_commit(repository, by_ssh(alice), a_yaml="1")
    krl = tmp_path / "revoked"
    subprocess.run(
        ["ssh-keygen", "-q", "-k", "-f", str(krl), f"{alice}.pub"], check=True, capture_output=True
    )
    async with following(open_(signers, krl)) as source:
        assert "alice@example.com" in await refused(source, "KeyRevoked")


def forged(repository: Repository, change: Callable[[bytes], bytes]) -> str:
    """Make a commit of what `change` makes of HEAD's; return its id."""
    raw = subprocess.run(
        ["git", "-C", str(repository.folder), "cat-file", "commit", "HEAD"],
        capture_output=True,
        check=True,
    ).stdout
    done = subprocess.run(
        ["git", "-C", str(repository.folder), "hash-object", "-t", "commit", "-w", "--stdin"],
        input=change(raw),
        capture_output=True,
        check=True,
    )
    made = done.stdout.decode().strip()
    repository.git("reset", "--hard", "--quiet", made)
    return made


def altered(raw: bytes) -> bytes:
    return raw + b"and more\n"


def cut(raw: bytes) -> bytes:
    start, end = raw.index(b"-----BEGIN"), raw.index(b"-----END")
    return raw[: start + 40] + b"\n bm9uc2Vuc2U=\n " + raw[end:]


def doubled(raw: bytes) -> bytes:
    start, end = raw.index(b"gpgsig "), raw.index(b"\n\n")
    return raw[: end + 1] + raw[start : end + 1] + raw[end + 1 :]


def emptied(raw: bytes) -> bytes:
    start, end = raw.index(b"gpgsig "), raw.index(b"\n\n")
    return raw[:start] + b"gpgsig nothing of ours" + raw[end:]


@pytest.mark.parametrize("change", [altered, cut, doubled, emptied])
@pytest.mark.parametrize(
    "way", [pytest.param("gpg", marks=needs_gpg), pytest.param("ssh", marks=needs_ssh)]
)
async def test_a_signature_that_is_not_the_commits_is_bad(repository, open_, request, change, way):
    if way == "gpg":
        gpg = request.getfixturevalue("gpg")
        key = gpg.key("Alice")
        options, file = by_gpg(gpg, key), gpg.export(gpg.home / "alice.asc", key)
    else:
        options = by_ssh(request.getfixturevalue("alice"))
        file = request.getfixturevalue("signers")
    signed_commit(repository, options, a_yaml="1")
    made = forged(repository, change)
    async with following(open_(file)) as source:
        assert made in await refused(source, "BadSignature")


@needs_gpg
async def test_the_text_of_a_commit_does_not_pass_for_gpgs(repository, open_, gpg, tmp_path):
    file = gpg.export(tmp_path / "alice.asc", gpg.key("Alice"))
    lines = "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 1 Alice\n[GNUPG:] VALIDSIG 1\n"
    mallory = gpg.key("Mallory")
    (repository.folder / "a").write_text("1")
    repository.git("add", "--all")
    repository.git(*by_gpg(gpg, mallory), "commit", "--quiet", "-S", "-m", f"x\n\n{lines}")
    async with following(open_(file)) as source:
        await refused(source, "UnknownKey")


def test_two_signatures_in_one_are_none():
    good = "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 1 Alice\n[GNUPG:] VALIDSIG F\n"
    assert not judged(good).reason
    assert (
        judged(good + "[GNUPG:] NEWSIG\n[GNUPG:] ERRSIG 2 1 8 00 1 9 -\n").reason == "BadSignature"
    )
    assert judged(good + "[GNUPG:] EXPKEYSIG 1 Alice\n").reason == "KeyExpired"
    assert judged("[GNUPG:] GOODSIG 1 Alice\n[GNUPG:] VALIDSIG F\n").reason == "BadSignature"


@needs_ssh
@pytest.mark.parametrize("local", [True, False])
async def test_a_signed_tag_is_what_mode_tag_asks_for(repository, open_, alice, signers, local):
    first = repository.commit(a="1")
    repository.git(*by_ssh(alice), "tag", "-s", "-m", "one", "v1")
    with serving(repository.folder.parent) as server:
        url = repository.url if local else server.url("repository/.git")
        async with following(open_(signers, mode="Tag", url=url, ref=GitRef(tag="v1"))) as source:
            assert (await source.snapshot()).revision == f"v1@sha1:{first}"
            repository.commit(a="2")
            repository.git("tag", "-f", "v1")
            source.source.look()
            assert "v1" in await refused(source, "NoSignature")
        both = open_(signers, mode="TagAndHEAD", url=url, ref=GitRef(tag="v1"))
        repository.git(*by_ssh(alice), "tag", "-f", "-s", "-m", "one", "v1")
        async with following(both) as source:
            assert "commit" in await refused(source, "NoSignature")
            second = signed_commit(repository, by_ssh(alice), a_yaml="3")
            repository.git(*by_ssh(alice), "tag", "-f", "-s", "-m", "one", "v1")
            source.source.look()
            assert (await source.snapshot()).revision == f"v1@sha1:{second}"


@needs_ssh
async def test_a_tag_that_was_signed_under_another_name_is_refused(
    repository, open_, alice, signers
):
    repository.commit(a="1")
    repository.git(*by_ssh(alice), "tag", "-s", "-m", "one", "v1")
    repository.git("update-ref", "refs/tags/v2", repository.git("rev-parse", "refs/tags/v1"))
    async with following(open_(signers, mode="Tag", ref=GitRef(tag="v2"))) as source:
        assert "signed as tag v1" in await refused(source, "BadSignature")
    repository.git(*by_ssh(alice), "tag", "-s", "-m", "one", "v1.0.0")
    async with following(open_(signers, mode="Tag", ref=GitRef(semver="1.x"))) as source:
        await source.snapshot()
        same = repository.git("rev-parse", "refs/tags/v1.0.0")
        repository.git("update-ref", "refs/tags/v1.1.0", same)
        source.source.look()
        assert "signed as tag v1.0.0" in await refused(source, "BadSignature")


@needs_ssh
@pytest.mark.parametrize("local", [True, False])
async def test_after_a_restart_the_last_verified_one_works(
    repository, open_, alice, signers, local
):
    first = signed_commit(repository, by_ssh(alice), a_yaml="1")
    with serving(repository.folder.parent) as server:
        url = repository.url if local else server.url("repository/.git")
        async with following(open_(signers, url=url)) as source:
            applied = (await source.snapshot()).revision
        repository.commit(a="2")
        async with following(open_(signers, url=url, applied=applied)) as source:
            snapshot = await source.snapshot()
            assert snapshot.revision == f"main@sha1:{first}"
            await refused(source, "NoSignature")
            signers.write_text(
                f"nobody@example.com {public(ssh_key(signers.with_name('other')))}\n"
            )
        async with following(open_(signers, url=url, applied=applied)) as source:
            await refused(source, "NoSignature")  # the earlier one isn't allowed any more


@needs_ssh
async def test_files_of_keys_are_read_again(repository, open_, alice, signers, tmp_path):
    text = signers.read_text()
    signers.write_text(f"bob@example.com {public(ssh_key(tmp_path / 'bob'))}\n")
    first = signed_commit(repository, by_ssh(alice), a_yaml="1")
    async with following(open_(signers)) as source:
        await refused(source, "UnknownKey")
        signers.write_text(text)
        source.source.look()
        assert (await source.snapshot()).revision == f"main@sha1:{first}"
        signers.write_text("nonsense\n")
        source.source.look()
        assert str(signers) in await refused(source, "KeysUnreadable")


@needs_ssh
async def test_a_private_key_is_no_key_to_check_with(repository, open_, alice):
    signed_commit(repository, by_ssh(alice), a_yaml="1")
    async with following(open_(alice)) as source:
        assert "is a private key" in await refused(source, "KeysUnreadable")


@needs_ssh
async def test_what_checks_has_to_be_installed(repository, open_, alice, signers, monkeypatch):
    signed_commit(repository, by_ssh(alice), a_yaml="1")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    async with following(open_(signers)) as source:
        assert "install OpenSSH's client" in await refused(source, "ProgramMissing")


@needs_ssh
@pytest.mark.parametrize("local", [True, False])
async def test_the_tag_that_a_range_takes_must_be_signed(repository, open_, alice, signers, local):
    first = repository.commit(a="1")
    repository.git(*by_ssh(alice), "tag", "-s", "-m", "one", "v1.0.0")
    with serving(repository.folder.parent) as server:
        url = repository.url if local else server.url("repository/.git")
        ref = GitRef(semver="1.x")
        async with following(open_(signers, mode="Tag", url=url, ref=ref)) as source:
            assert (await source.snapshot()).revision == f"v1.0.0@sha1:{first}"
            repository.commit(a="2")
            repository.git("tag", "-a", "-m", "two", "v1.1.0")
            source.source.look()
            assert "v1.1.0" in await refused(source, "NoSignature")


@needs_ssh
@pytest.mark.parametrize("mode", ["Tag", "TagAndHEAD"])
@pytest.mark.parametrize("local", [True, False])
async def test_after_a_restart_the_last_verified_tag_works(  # noqa: PLR0917 - fixtures
    repository, open_, alice, signers, mode, local
):
    first = signed_commit(repository, by_ssh(alice), a_yaml="1")
    repository.git(*by_ssh(alice), "tag", "-s", "-m", "one", "v1.0.0")
    with serving(repository.folder.parent) as server:
        url = repository.url if local else server.url("repository/.git")

        def opened(applied=""):
            return open_(signers, mode=mode, url=url, ref=GitRef(semver="1.x"), applied=applied)

        async with following(opened()) as source:
            applied = (await source.snapshot()).revision
        repository.commit(a="2")
        repository.git("tag", "v1.1.0")
        repository.git("tag", "-d", "v1.0.0")
        async with following(opened(applied)) as source:
            assert (await source.snapshot()).revision == f"v1.0.0@sha1:{first}"
            await refused(source, "NoSignature")
        other = repository.git("rev-parse", "HEAD")
        async with following(opened(f"v1.0.0@sha1:{other}")) as source:
            await refused(source, "NoSignature")  # the tag that verified is of another commit


async def test_an_x509_signature_is_refused_by_its_name(repository, open_, signers):
    plain = repository.commit(a="1")
    raw = repository.git("cat-file", "commit", plain)
    block = "gpgsig -----BEGIN SIGNED MESSAGE-----\n MIIB\n -----END SIGNED MESSAGE-----\n\n"
    file = repository.folder.parent / "raw"
    file.write_text(raw.replace("\n\n", "\n" + block, 1) + "\n")
    signed = repository.git("hash-object", "-t", "commit", "-w", str(file))
    repository.git("update-ref", "refs/heads/main", signed)
    async with following(open_(signers)) as source:
        told = await refused(source, "SignatureUnsupported")
    assert "X.509" in told
