"""A commit that isn't applied is told so, at each kind of forge; and said once."""

import json
import sqlite3

import pytest

from controller.model.condition import find
from tests.e2e.controller_process import ON_CHANGE, ControllerProcess, manifest
from tests.far_side import FarSide
from tests.signing import by_ssh, needs_ssh, public, signed_commit, ssh_key
from tests.source_places import Repository

FAILED = {"github": "failure", "gitlab": "failed", "gitea": "failure"}
FAULTY = manifest("two", "true", "  timeot: 1s\n")


class Forge:
    """A controller of a repository, whose forge is the far side."""

    def __init__(self, place, type_: str) -> None:
        self.place, self.type = place, type_
        self.repository = Repository(place / "repository")
        self.far = FarSide()
        self.controller = ControllerProcess(place, "--config", str(place / "rondel.yaml"))
        (place / "token").write_text("token-of-the-forge")

    def configure(self, **more) -> None:
        statuses = {"type": self.type, "secret": "forge", "url": self.far.url}
        source = {
            "name": "ops",
            "kind": "Git",
            "url": self.repository.url,
            "ref": {"branch": "main"},
            "trusted": True,
            "statuses": {**statuses, "repository": "acme/ops"},
            **more,
        }
        secrets = {"forge": {"file": str(self.place / "token")}}
        config = {"sources": [source], "secrets": secrets}
        (self.place / "rondel.yaml").write_text(json.dumps(config))

    def said(self, commit: str) -> list[tuple[str, str]]:
        """Return what a commit was told under the source's name: states and descriptions."""
        name = "name" if self.type == "gitlab" else "context"
        return [
            (one.body["state"], one.body["description"])
            for one in self.far.taken
            if one.path.endswith(f"/statuses/{commit}") and one.body[name] == "rondel/ops"
        ]

    def until_said(self, commit: str, state: str) -> str:
        """Wait for a state; return its description."""
        wait = self.controller.until
        wait(lambda: self.said(commit)[-1:] and self.said(commit)[-1][0] == state, f"it is {state}")
        return self.said(commit)[-1][1]

    def refusals(self) -> list[str]:
        events = self.controller.look(lambda reader: reader.events(source="ops"))
        return [one.message for one in events if one.reason == "RevisionRefused"]

    def ready(self) -> str:
        status = self.controller.look(lambda reader: reader.source("ops"))
        ready = find(status.conditions, "Ready")
        return ready.message if ready is not None else ""

    def unsaid(self) -> int:
        """Return how many words are not known to have been taken."""
        with sqlite3.connect(self.controller.state / "rondel.db") as store:
            query = "SELECT count(*) FROM commit_status WHERE number > said_number"
            return int(store.execute(query).fetchone()[0])


@pytest.fixture(params=sorted(FAILED))
def forge(tmp_path, request):
    made = Forge(tmp_path, request.param)
    yield made
    made.far.stop()
    if made.controller.process is not None and made.controller.process.poll() is None:
        made.controller.stop()


def test_a_commit_with_a_fault_that_an_atomic_source_refuses_is_red(forge):
    forge.configure(atomic=True)
    good = forge.repository.commit(one_yaml=manifest("one", "true", ON_CHANGE))
    forge.controller.start()
    forge.until_said(good, "success")
    bad = forge.repository.commit(two_yaml=FAULTY)
    text = forge.until_said(bad, FAILED[forge.type])
    assert text.startswith("not applied: NotApplied: ")
    assert forge.ready().endswith(f" | main@sha1:{good} works on")
    assert [f"main@sha1:{bad}: " in one for one in forge.refusals()] == [True]
    mended = forge.repository.commit(two_yaml=manifest("two"))
    forge.until_said(mended, "success")
    assert [state for state, _ in forge.said(bad)] == [FAILED[forge.type]]


@needs_ssh
def test_a_commit_that_nobody_known_has_signed_is_red_until_its_key_is_known(forge):
    alice, bob = ssh_key(forge.place / "alice"), ssh_key(forge.place / "bob")
    allowed = forge.place / "allowed_signers"
    allowed.write_text(f"alice@example.com {public(alice)}\n")
    forge.configure(verify={"keys": ["allowed_signers"]})
    files = {"one_yaml": manifest("one", "true", ON_CHANGE)}
    commit = signed_commit(forge.repository, by_ssh(bob), **files)
    forge.controller.start()
    text = forge.until_said(commit, FAILED[forge.type])
    assert text.startswith("not applied: UnknownKey: ")
    assert commit in text
    forge.controller.until(lambda: forge.unsaid() == 0, "it is known to be said")
    assert forge.ready().endswith(" | nothing of this source runs until one is applied")
    forge.controller.kill()
    forge.controller.start()
    forge.controller.until(lambda: forge.controller.events("source_failed")[1:], "it looked again")
    assert len(forge.refusals()) == 1, "it is said once, also after a restart"
    allowed.write_text(f"alice@example.com {public(alice)}\nbob@example.com {public(bob)}\n")
    forge.controller.stop()
    forge.controller.start()
    forge.until_said(commit, "success")
    assert [state for state, _ in forge.said(commit)].count(FAILED[forge.type]) == 1
