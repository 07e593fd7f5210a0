"""Real keys for tests: GPG and SSH, and commits and tags signed with them."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.source_places import Repository

needs_gpg = pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
needs_ssh = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed"
)


class Gpg:
    """A home of GPG with keys of ours; gpg-agent, which signs, ends with it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(mode=0o700)

    def ran(self, *words: str, text: str | None = None) -> str:
        command = [
            "gpg",
            "--homedir",
            str(self.home),
            "--batch",
            "--yes",
            "--pinentry-mode=loopback",
        ]
        done = subprocess.run(
            [*command, "--passphrase=", *words],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def key(self, name: str, *, expires: str = "never", at: str = "") -> str:
        """Make a key that signs; return its fingerprint."""
        user = f"{name} <{name.lower()}@example.com>"
        words = ("--quick-generate-key", user, "ed25519", "sign", expires)
        self.ran(*((f"--faked-system-time={at}",) if at else ()), *words)
        told = self.ran("--with-colons", "--list-keys", user)
        return next(line.split(":")[9] for line in told.splitlines() if line.startswith("fpr"))

    def export(self, file: Path, *keys: str) -> str:
        file.write_text(self.ran("--armor", "--export", *keys))
        return str(file)

    def revoke(self, key: str) -> None:
        certificate = self.home / "openpgp-revocs.d" / f"{key}.rev"
        text = certificate.read_text().replace(":-----BEGIN", "-----BEGIN")
        self.ran("--import", text=text)

    def program(self, *, at: str = "") -> str:
        """Return a program that signs as git asks gpg to, at a time of our choice."""
        script = self.home / f"sign{at}"
        time = f"--faked-system-time={at} --ignore-time-conflict" if at else ""
        script.write_text(f'#!/bin/sh\nexec gpg --homedir "{self.home}" {time} "$@"\n')
        script.chmod(0o755)
        return str(script)


@contextmanager
def gpg_home(home: Path) -> Iterator[Gpg]:
    """Yield a home of GPG; gpg-agent wants a short path for its socket."""
    try:
        yield Gpg(home)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "gpg-agent"], check=True)
        shutil.rmtree(home, ignore_errors=True)


def ssh_key(file: Path) -> Path:
    """Make a key without a passphrase; return the private one's file."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", file.name, "-f", str(file)],
        check=True,
    )
    return file


def public(file: Path) -> str:
    return " ".join(file.with_name(f"{file.name}.pub").read_text().split()[:2])


def signed_commit(repository: Repository, options: tuple[str, ...], **files: str) -> str:
    """Commit files, signed as git's `options` (`-c` settings) say; return the commit."""
    for name, text in files.items():
        (repository.folder / name.replace("_yaml", ".yaml")).write_text(text)
    repository.git("add", "--all")
    repository.git(*options, "commit", "--quiet", "--allow-empty", "-S", "-m", "signed")
    return repository.git("rev-parse", "HEAD")


def by_gpg(gpg: Gpg, key: str, *, at: str = "") -> tuple[str, ...]:
    return ("-c", f"gpg.program={gpg.program(at=at)}", "-c", f"user.signingKey={key}!")


def by_ssh(key: Path) -> tuple[str, ...]:
    return ("-c", "gpg.format=ssh", "-c", f"user.signingKey={key}")
