"""A real sshd on loopback, for one user and one key: Git over SSH as a host serves it."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.signing import public, ssh_key

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
needs_sshd = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None, reason="openssh-server is not installed"
)
CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {place}/host
PidFile none
AuthorizedKeysFile {place}/authorized
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
"""


@dataclass(frozen=True, slots=True)
class SshServer:
    """Where it listens, which key it knows, and the known_hosts that knows its own."""

    port: int
    key: Path
    known_hosts: Path

    def url(self, folder: Path) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{folder}"


@contextmanager
def ssh_serving(place: Path, programs: Path | None = None) -> Iterator[SshServer]:
    """Serve what this user may read; `place` is an empty folder for keys.

    A command may be one of the folder `programs`.
    """
    assert SSHD is not None
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it puts its unprivileged half
    host, key = ssh_key(place / "host"), ssh_key(place / "user")
    (place / "authorized").write_text(public(key) + "\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    more = f"SetEnv PATH={programs}:{os.environ['PATH']}\n" if programs else ""
    (place / "config").write_text(CONFIG.format(port=port, place=place) + more)
    known = place / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {public(host)}\n")
    with (place / "log").open("wb") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(place / "config")], stderr=log)
    try:
        until_listening(process, port, place / "log")
        yield SshServer(port, key, known)
    finally:
        process.terminate()
        process.wait(timeout=20)


def until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(400):
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(log.read_text())
