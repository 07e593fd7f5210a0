"""`rondel check`: what a controller would miss is said before it is started."""

import json
import shutil

import pytest

from tests.signing import gpg_home, needs_gpg, needs_ssh, public, ssh_key

SSH = {"name": "shell", "kind": "Git", "url": "git@example.com:acme/ops.git"}


@pytest.fixture
def checked(tmp_path, rondel):
    """Return what is found for some sources, with no programs but git and those named."""
    programs = tmp_path / "bin"

    def call(*sources, has=(), git=None):
        shutil.rmtree(programs, ignore_errors=True)
        programs.mkdir()
        for name in ("git", *has):
            found = shutil.which(name)
            assert found is not None
            (programs / name).symlink_to(found)
        if git is not None:
            (programs / "git").unlink()
            (programs / "git").write_text(f"#!/bin/sh\necho '{git}'\n")
            (programs / "git").chmod(0o755)
        known = {"host.keys": "example.com ssh-ed25519 AAAA\n", "login": "secret"}
        for name, text in known.items():
            (tmp_path / name).write_text(text)
        config = {
            "executor": "local",
            "sources": list(sources),
            "secrets": {"key": {"file": "login"}},
        }
        (tmp_path / "rondel.yaml").write_text(json.dumps(config))
        words = ("check", "--config", tmp_path / "rondel.yaml", "-o", "json")
        done = rondel(*words, PATH=str(programs))
        found = {one["name"]: (one["ok"], one["detail"]) for one in json.loads(done.stdout)}
        assert done.returncode == (0 if all(ok for ok, _ in found.values()) else 1)
        return found

    return call


def over_ssh(**more):
    auth = {"type": "ssh", "secret": "key"}
    return {**SSH, "trusted": True, "auth": auth, "knownHosts": "host.keys", **more}


def local(tmp_path, *keys):
    url = (tmp_path / "repository").as_uri()
    verify = {"verify": {"keys": list(keys)}} if keys else {}
    return {"name": "signed", "kind": "Git", "url": url, "trusted": True, **verify}


def test_only_what_the_sources_need_is_looked_for(checked, tmp_path):
    found = checked(local(tmp_path))
    assert set(found) == {"config", "git", "store", "disk", "clock", "engine"}
    assert all(ok for ok, _ in found.values())
    assert found["git"][1].startswith("git version ")


def test_a_source_over_ssh_needs_ssh(checked):
    ok, detail = checked(over_ssh())["ssh"]
    assert not ok
    assert detail == (
        "ssh is not installed, and source shell fetches by ssh; install OpenSSH's client"
    )


@needs_ssh
def test_ssh_is_found_where_it_is(checked):
    ok, detail = checked(over_ssh(), has=("ssh",))["ssh"]
    assert ok
    assert detail.endswith("/ssh")


@needs_ssh
def test_keys_of_ssh_need_its_keygen(checked, tmp_path):
    (tmp_path / "alice.pub").write_text(public(ssh_key(tmp_path / "alice")))
    ok, detail = checked(local(tmp_path, "alice.pub"))["verify"]
    assert not ok
    assert detail.startswith("ssh-keygen is not installed, and source signed verifies by it; ")
    assert checked(local(tmp_path, "alice.pub"), has=("ssh-keygen",))["verify"] == (
        True,
        "ssh-keygen",
    )


@needs_gpg
def test_keys_of_gpg_need_gpg(checked, tmp_path):
    home = tmp_path / "gnupg"
    with gpg_home(home) as gpg:
        gpg.export(tmp_path / "alice.asc", gpg.key("Alice"))
    ok, detail = checked(local(tmp_path, "alice.asc"))["verify"]
    assert not ok
    assert detail == "gpg is not installed, and source signed verifies by it; install GnuPG"
    assert checked(local(tmp_path, "alice.asc"), has=("gpg",))["verify"] == (True, "gpg")


def test_a_file_of_keys_that_is_not_there_is_said(checked, tmp_path):
    ok, detail = checked(local(tmp_path, "nobody.asc"))["verify"]
    assert not ok
    assert "nobody.asc: No such file or directory; name files of" in detail


def test_a_git_that_is_too_old_is_said(checked, tmp_path):
    ok, detail = checked(local(tmp_path), git="git version 2.20.1")["git"]
    assert not ok
    assert detail == "git version 2.20.1 is too old: logins need 2.31; install a newer one"
