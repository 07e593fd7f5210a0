"""Every kind of login, good and refused, in a real controller: its secret is seen nowhere."""

import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.model.condition import find
from tests.certificates import authority
from tests.e2e.controller_process import ControllerProcess, manifest
from tests.git_over_ssh import needs_sshd, ssh_serving
from tests.signing import ssh_key
from tests.source_places import Repository, serving

RIGHT, WRONG = "the-right-word-of-nobody", "another-word-of-nobody"
REFUSED = {
    "basic-wrong": "AuthFailed",
    "token-wrong": "AuthFailed",
    "token-unknown-authority": "CertificateUnknown",
    "token-no-certificate": "FetchFailed",
    "ssh-wrong": "AuthFailed",
    "ssh-no-key": "AuthFailed",
    "ssh-unknown-host": "HostKeyUnknown",
    "basic-dead-proxy": "FetchFailed",
}
LET_IN = ("basic", "token", "ssh")


class Watched:
    """Every command line that was ever seen while the block lasts."""

    def __init__(self) -> None:
        self.lines: set[bytes] = set()
        self._over = threading.Event()

    def look(self) -> None:
        while not self._over.wait(0.005):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):  # it has ended
                    self.lines.add(path.read_bytes())

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self.look)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


def of_basic(secret: str) -> dict[str, str]:
    return {"type": "basic", "username": "alice", "secret": secret}


@pytest.fixture
def place(tmp_path):
    for name in ("served", "sshd"):
        (tmp_path / name).mkdir()
    Repository(tmp_path / "served" / "ops").commit(one_yaml=manifest("one"))
    (tmp_path / "right").write_text(RIGHT)
    (tmp_path / "wrong").write_text(WRONG)
    (tmp_path / "nobody").touch()
    return tmp_path


def configure(place: Path, http: Any, tls: Any, sshd: Any, trust: Any) -> tuple[Path, ...]:
    """Write the configuration; return the files of the private keys in it."""
    client, other = trust.issue("client"), ssh_key(place / "other")
    plain = {"url": http.url("ops/.git")}
    token = {"url": tls.url("ops/.git"), "auth": {"type": "token", "secret": "right"}}
    ours = {"caFile": trust.cert}
    shown = {"clientCert": {"cert": client.cert, "key": client.key}}
    shell = {
        "url": sshd.url(place / "served" / "ops"),
        "auth": {"type": "ssh", "secret": "key"},
        "knownHosts": str(sshd.known_hosts),
    }
    sources = {
        "basic": plain | {"auth": of_basic("right")},
        "basic-wrong": plain | {"auth": of_basic("wrong")},
        "basic-dead-proxy": plain | {"auth": of_basic("right"), "proxy": "http://127.0.0.1:1"},
        "token": token | ours | shown,
        "token-wrong": token | ours | shown | {"auth": {"type": "token", "secret": "wrong"}},
        "token-unknown-authority": token | shown,
        "token-no-certificate": token | ours,
        "ssh": shell,
        "ssh-wrong": shell | {"auth": {"type": "ssh", "secret": "other"}},
        "ssh-no-key": shell | {"auth": {"type": "ssh", "secret": "wrong"}},
        "ssh-unknown-host": shell | {"knownHosts": str(place / "nobody")},
    }
    common = {"kind": "Git", "interval": "1s", "timeout": "10s", "trusted": True}
    files = {"right": "right", "wrong": "wrong", "key": str(sshd.key), "other": str(other)}
    config = {
        "sources": [common | {"name": name} | one for name, one in sources.items()],
        "secrets": {name: {"file": str(place / file)} for name, file in files.items()},
    }
    (place / "rondel.yaml").write_text(json.dumps(config))
    return sshd.key, other, Path(client.key)


def ready(controller: ControllerProcess, source: str) -> Any:
    status = controller.look(lambda reader: reader.source(source))
    return find(status.conditions, "Ready") if status is not None else None


def is_applied(controller: ControllerProcess, *names: str) -> bool:
    found = [ready(controller, one) for one in names]
    return all(one is not None and one.reason == "Applied" for one in found)


def marks(keys: tuple[Path, ...]) -> list[bytes]:
    """Return what must stand nowhere: secrets, as they are and as they are sent."""
    logins = [f"{user}:{word}" for user in ("alice", "x-access-token") for word in (RIGHT, WRONG)]
    sent = [base64.b64encode(one.encode()) for one in logins]
    return [RIGHT.encode(), WRONG.encode(), *sent, *(one.read_bytes().splitlines()[2] for one in keys)]  # fmt: skip


@needs_sshd
def test_no_login_leaves_its_secret_anywhere_and_a_mended_one_lets_us_in(place):
    trust = authority(place / "authority")
    own = trust.issue("localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=trust.cert)
    context.load_cert_chain(own.cert, own.key)
    context.verify_mode = ssl.CERT_REQUIRED
    watched = Watched()
    with (
        serving(place / "served") as http,
        serving(place / "served", context) as tls,
        ssh_serving(place / "sshd") as sshd,
        watched.watching(),
    ):
        http.login, tls.login = f"alice:{RIGHT}", f"x-access-token:{RIGHT}"
        secret = marks(configure(place, http, tls, sshd, trust))
        controller = ControllerProcess(place, "--config", str(place / "rondel.yaml"))
        controller.start(ready=False)
        try:
            controller.until(lambda: controller.events("ready"), "it has a store")
            controller.until(lambda: is_applied(controller, *LET_IN), "the good ones are let in")
            controller.until(
                lambda: all(ready(controller, one) is not None for one in REFUSED), "all are asked"
            )
            assert {one: ready(controller, one).reason for one in REFUSED} == REFUSED
            (place / "wrong").write_text(RIGHT)
            mended = ("basic-wrong", "token-wrong")
            controller.until(lambda: is_applied(controller, *mended), "the right word is taken")
        finally:
            assert controller.stop() == 0
    assert any(b"git-upload-pack" in line for line in watched.lines)  # it did look
    kept = [path.read_bytes() for path in controller.state.rglob("*") if path.is_file()]
    places = [*watched.lines, *kept, controller.log().encode()]
    assert not [one for one in places if any(mark in one for mark in secret)]
