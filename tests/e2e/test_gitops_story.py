"""One story of a repository that is followed over HTTP and over SSH, told by webhooks."""

import json
import signal
import time
import uuid

import httpx
import pytest

from controller.model.condition import Condition, Status, find
from controller.serve.address import socket_path
from tests.e2e.controller_process import ON_CHANGE, ControllerProcess, alive, manifest
from tests.e2e.test_webhooks import SECRET, signed
from tests.git_over_ssh import needs_sshd, ssh_serving
from tests.signing import by_ssh, needs_ssh, public, signed_commit, ssh_key
from tests.source_places import Repository, serving

SOURCES = ("web", "shell")  # the same repository over HTTP and over SSH
PASSWORD = "a password that stands nowhere"
GENEROUS = 10.0  # seconds; the aim is one


class Story:
    """A repository, a controller that follows it twice, and who may sign."""

    def __init__(self, place, repository: Repository, controller: ControllerProcess) -> None:
        self.place = place
        self.repository = repository
        self.controller = controller
        self.alice = ssh_key(place / "alice")
        self.lags: list[float] = []

    def configure(self, server, sshd) -> None:
        (self.place / "allowed_signers").write_text(f"alice@example.com {public(self.alice)}\n")
        (self.place / "hook").write_text(SECRET)
        (self.place / "password").write_text(PASSWORD)
        server.login = f"alice:{PASSWORD}"
        common = {
            "kind": "Git",
            "ref": {"branch": "main"},
            "interval": "1h",
            "trusted": True,
            "verify": {"keys": ["allowed_signers"]},
        }
        web = {
            "name": "web",
            "url": server.url("repository/.git"),
            "auth": {"type": "basic", "username": "alice", "secret": "password"},
        }
        shell = {
            "name": "shell",
            "url": sshd.url(self.repository.folder),
            "auth": {"type": "ssh", "secret": "key"},
            "knownHosts": str(sshd.known_hosts),
        }
        secrets = {"hook": "hook", "password": "password", "key": str(sshd.key)}
        config = {
            "sources": [common | web, common | shell],
            "secrets": {name: {"file": str(self.place / file)} for name, file in secrets.items()},
            "receivers": {"push": {"type": "generic", "secret": "hook", "sources": list(SOURCES)}},
        }
        (self.place / "rondel.yaml").write_text(json.dumps(config))

    def start(self) -> None:
        events = self.controller.start().events
        self.controller.until(
            lambda: len(events("listening")) == len(events("ready")), "its door is open"
        )

    def sign(self, **files: str) -> str:
        return signed_commit(self.repository, by_ssh(self.alice), **files)

    def told(self, holds, what: str) -> None:
        """Send the webhook of a push, and wait until both sources are as they should be."""
        is_news = not all(holds(self.status(source)) for source in SOURCES)
        transport = httpx.HTTPTransport(uds=str(socket_path(self.controller.state)))
        with httpx.Client(transport=transport, base_url="http://rondel", timeout=30) as client:
            delivery = uuid.uuid4().hex
            body = json.dumps({"ref": "refs/heads/main", "delivery": delivery}).encode()
            headers = signed("generic", body, id_=delivery)
            began = time.monotonic()
            assert client.post("/hooks/push", content=body, headers=headers).status_code == 202
        self.controller.until(lambda: all(holds(self.status(source)) for source in SOURCES), what)
        if is_news:
            self.lags.append(time.monotonic() - began)

    def applied(self, commit: str) -> None:
        revision = f"main@sha1:{commit}"
        self.told(lambda one: one.last_applied_revision == revision, f"{commit} is applied")
        for source in SOURCES:
            condition = self.verified(source)
            assert condition.status is Status.TRUE
            assert "alice@example.com" in condition.message

    def refused(self, commit: str, reason: str) -> None:
        revision = f"main@sha1:{commit}"
        self.told(
            lambda one: (
                one.last_attempted_revision == revision
                and self.verified(one.name).status is Status.FALSE
            ),
            f"{commit} is refused",
        )
        for source in SOURCES:
            condition = self.verified(source)
            assert condition.reason == reason
            assert commit in condition.message
            assert self.status(source).last_applied_revision != revision

    def status(self, source: str):
        return self.controller.look(lambda reader: reader.source(source))

    def condition(self, source: str, type_: str) -> Condition:
        found = find(self.status(source).conditions, type_)
        assert found is not None
        return found

    def verified(self, source: str) -> Condition:
        return self.condition(source, "SourceVerified")

    def working(self) -> dict[str, set[str]]:
        """Return the workflows of each source that are not retired."""
        return {
            source: {
                one.name
                for one in self.controller.look(lambda reader: reader.workflows())
                if one.source == source and not one.retired
            }
            for source in SOURCES
        }

    def both(self, *names: str) -> dict[str, set[str]]:
        return {source: set(names) for source in SOURCES}


@pytest.fixture
def story(tmp_path):
    repository = Repository(tmp_path / "repository")
    controller = ControllerProcess(tmp_path, "--config", str(tmp_path / "rondel.yaml"))
    made = Story(tmp_path, repository, controller)
    (tmp_path / "sshd").mkdir()
    with serving(tmp_path) as server, ssh_serving(tmp_path / "sshd") as sshd:
        made.configure(server, sshd)
        yield made
        if controller.process is not None:
            assert controller.stop() == 0


@needs_ssh
@needs_sshd
def test_what_is_signed_is_followed_over_http_and_ssh(story, capsys):
    first = story.sign(
        greet_yaml=manifest("greet", "echo one", ON_CHANGE), other_yaml=manifest("other")
    )
    story.start()
    story.applied(first)
    assert story.working() == story.both("greet", "other")

    # What nobody signed is not applied; what was keeps working, also after a restart.
    bad = story.repository.commit(greet_yaml=manifest("greet", "echo stolen", ON_CHANGE))
    story.refused(bad, "NoSignature")
    story.controller.kill()
    story.start()
    story.refused(bad, "NoSignature")
    assert story.working() == story.both("greet", "other")
    revisions = {run.revision for run in story.controller.runs()}
    assert revisions == {f"main@sha1:{first}"}

    # Nor what somebody else signed.
    mallory = ssh_key(story.place / "mallory")
    foreign = signed_commit(
        story.repository, by_ssh(mallory), greet_yaml=manifest("greet", "echo two", ON_CHANGE)
    )
    story.refused(foreign, "UnknownKey")

    # The branch is forced to another history.
    story.repository.git("reset", "--hard", "--quiet", first)
    forced = story.sign(greet_yaml=manifest("greet", "echo three", ON_CHANGE))
    story.applied(forced)
    story.controller.until(
        lambda: (
            {run.revision for run in story.controller.runs()}
            == {f"main@sha1:{first}", f"main@sha1:{forced}"}
        ),
        "its change has run",
    )

    # A manifest that is deleted retires its workflow; an empty branch retires nothing.
    (story.repository.folder / "other.yaml").unlink()
    story.applied(story.sign())
    story.controller.until(
        lambda: story.working() == story.both("greet"), "the deleted one is retired"
    )
    (story.repository.folder / "greet.yaml").unlink()
    emptied = story.sign()
    revision = f"main@sha1:{emptied}"
    story.told(lambda one: one.last_attempted_revision == revision, "the empty branch is seen")
    story.controller.until(
        lambda: all("allowEmpty" in story.condition(one, "Ready").message for one in SOURCES),
        "it is told how to mean it",
    )
    assert story.working() == story.both("greet")

    with capsys.disabled():
        lags = ", ".join(f"{lag:.2f}" for lag in story.lags)
        print(f"\nseconds from a webhook to both sources' status, over HTTP and SSH: {lags}")
    assert min(story.lags) < GENEROUS

    # No secret stands in a command, the log or the store.
    assert alive(PASSWORD) == []
    assert story.controller.stop() == 0
    key = (story.place / "sshd" / "user").read_bytes().splitlines()[2]
    kept = [path for path in story.controller.state.rglob("*") if path.is_file()]
    contents = [path.read_bytes() for path in kept] + [story.controller.log().encode()]
    assert not [one for one in contents if PASSWORD.encode() in one or key in one]


@needs_ssh
def test_a_key_that_is_allowed_meanwhile_is_seen_at_a_reload(story):
    config = story.place / "rondel.yaml"
    settings = json.loads(config.read_text())
    local = {
        "name": "local",
        "kind": "Git",
        "url": str(story.repository.folder),
        "interval": "1h",
        "verify": {"keys": ["allowed_signers"]},
    }
    config.write_text(json.dumps(settings | {"sources": [local], "receivers": {}}))
    signers = story.place / "allowed_signers"
    allowed = signers.read_text()
    signers.write_text(f"bob@example.com {public(ssh_key(story.place / 'bob'))}\n")
    commit = story.sign(greet_yaml=manifest("greet"))
    story.start()
    assert story.verified("local").reason == "UnknownKey"
    signers.write_text(allowed)
    story.controller.process.send_signal(signal.SIGHUP)
    story.controller.until(
        lambda: story.status("local").last_applied_revision == f"main@sha1:{commit}",
        "the commit is applied",
    )
    assert story.verified("local").status is Status.TRUE
