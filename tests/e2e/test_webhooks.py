"""Webhooks to a real controller: over its socket and over TCP, signed as each sender does."""

import base64
import hashlib
import hmac
import json
import re
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from controller.model.run import Phase, Trigger
from controller.serve.address import socket_path
from tests.conftest import environment
from tests.e2e.controller_process import ControllerProcess, manifest

SECRET = "correct horse battery staple"
KEY = b"a signing token of 32 bytes ......"
STANDARD = "whsec_" + base64.b64encode(KEY).decode()
BODY = b'{"ref": "refs/heads/main"}'
TYPES = ("github", "gitlab", "gitea", "generic")
TRIGGER = "  triggers: [{webhook: %s, params: {region: eu}}]\n"
PARAMS = "  params: [{name: region, default: us}]\n"


def configure(folder: Path, types=TYPES, *, more="", spare=()) -> Path:
    for name, value in (("plain", SECRET), ("standard", STANDARD)):
        (folder / name).write_text(value + "\n")
    (folder / "ops").mkdir(exist_ok=True)
    (folder / "spare").mkdir(exist_ok=True)
    (folder / "rondel.yaml").write_text(
        json.dumps(
            {
                "sources": [
                    {"name": name, "kind": "Directory", "path": name} for name in ("ops", "spare")
                ],
                "secrets": {name: {"file": str(folder / name)} for name in ("plain", "standard")},
                "receivers": {
                    **{one: {"type": one, "secret": "plain", "sources": ["ops"]} for one in types},
                    "standard": {"type": "gitlab", "secret": "standard", "sources": ["ops"]},
                    **{one: {"type": "generic", "secret": "plain"} for one in spare},
                },
            }
        )
    )
    return folder / "rondel.yaml"


def signed(kind: str, body: bytes = BODY, *, id_: str = "d-1", secret: str = SECRET, at=None):
    at = str(int(time.time() if at is None else at))
    key = secret.encode()
    mac = hmac.new(key, body, hashlib.sha256).hexdigest()
    match kind:
        case "github":
            return {
                "X-Hub-Signature-256": f"sha256={mac}",
                "X-GitHub-Delivery": id_,
                "X-GitHub-Event": "push",
            }
        case "gitea":
            return {"X-Gitea-Signature": mac, "X-Gitea-Delivery": id_}
        case "gitlab":
            return {"X-Gitlab-Token": secret, "X-Gitlab-Event-UUID": id_}
        case "standard":
            key = base64.b64decode(secret.removeprefix("whsec_"))
            tag = hmac.digest(key, f"{id_}.{at}.".encode() + body, "sha256")
            return {
                "webhook-id": id_,
                "webhook-timestamp": at,
                "webhook-signature": "v1,bm90IGl0 v1," + base64.b64encode(tag).decode(),
            }
        case _:
            mac = hmac.new(key, at.encode() + b"." + body, hashlib.sha256).hexdigest()
            return {
                "X-Rondel-Timestamp": at,
                "X-Rondel-Signature": f"sha256={mac}",
                "X-Rondel-Delivery": id_,
            }


SECRETS = {kind: STANDARD if kind == "standard" else SECRET for kind in (*TYPES, "standard")}


class Watched(ControllerProcess):
    """A controller, and the clients that talk to it."""

    def __init__(self, folder: Path, *words: str) -> None:
        super().__init__(folder, *words)
        self.clients: list[httpx.Client] = []


@pytest.fixture
def controller(tmp_path):
    made = Watched(tmp_path, "--config", str(tmp_path / "rondel.yaml"))
    yield made
    for client in made.clients:
        client.close()
    if made.process is not None:
        assert made.stop() == 0


def serving(controller, folder, manifests, **options):
    configure(folder, **options)
    for path, text in manifests.items():
        (folder / path).write_text(text)
    controller.start()
    return listening(controller)


def listening(controller):
    began = max(i for i, one in enumerate(controller.events()) if one["event"] == "ready")
    controller.until(
        lambda: [one for one in controller.events()[began:] if one["event"] == "listening"],
        "its door is open",
    )
    transport = httpx.HTTPTransport(uds=str(socket_path(controller.state)))
    client = httpx.Client(transport=transport, base_url="http://rondel", timeout=30)
    controller.clients.append(client)
    return client


@pytest.mark.parametrize("kind", [*TYPES, "standard"])
def test_a_signed_webhook_starts_what_names_its_receiver_once(controller, tmp_path, kind):
    deploy = manifest("deploy", "echo $RONDEL_TRIGGER", PARAMS + TRIGGER % kind)
    http = serving(controller, tmp_path, {"ops/a.yaml": deploy, "ops/b.yaml": manifest("other")})
    secret, url = SECRETS[kind], f"/hooks/{kind}"
    headers = signed(kind, secret=secret)

    wrong = http.post(url, content=BODY, headers=signed(kind, secret=secret[:-2] + "c="))
    bare = http.post(url, content=BODY)
    unknown = http.post("/hooks/nobody", content=BODY, headers=headers)
    assert {one.status_code for one in (wrong, bare, unknown)} == {401}
    assert wrong.content == bare.content == unknown.content
    if kind != "gitlab":  # its plain token signs nothing
        assert http.post(url, content=BODY + b" ", headers=headers).status_code == 401
    assert controller.runs() == []

    assert http.post(url, content=BODY, headers=headers).status_code == 202
    [run] = controller.runs()
    assert (run.trigger, run.identity) == (Trigger.WEBHOOK, f"webhook:{kind}:d-1")
    assert (run.workflow, run.params) == ("deploy", {"region": "eu"})
    assert run.revision == controller.look(lambda r: r.source("ops")).last_applied_revision

    assert http.post(url, content=BODY, headers=headers).status_code == 409
    if kind in {"github", "gitea", "generic"}:  # the id isn't signed: another one helps nobody
        other = {
            name: "d-2" if name.endswith("-Delivery") else value for name, value in headers.items()
        }
        assert http.post(url, content=BODY, headers=other).status_code == 409
    controller.until(lambda: controller.runs()[0].phase is Phase.SUCCEEDED, "it ran")
    again = signed(kind, BODY + b"\n", id_="d-2", secret=secret)
    assert http.post(url, content=BODY + b"\n", headers=again).status_code == 202
    assert len(controller.runs()) == 2


@pytest.mark.parametrize("kind", ["generic", "standard"])
@pytest.mark.parametrize("seconds", [-360, 360])
def test_a_signature_that_is_too_old_or_too_new_is_refused(controller, tmp_path, kind, seconds):
    http = serving(controller, tmp_path, {})
    headers = signed(kind, secret=SECRETS[kind], at=time.time() + seconds)
    assert http.post(f"/hooks/{kind}", content=BODY, headers=headers).status_code == 401


def test_a_body_that_is_too_large_is_refused_however_it_is_sent(controller, tmp_path):
    http = serving(controller, tmp_path, {})
    body = b"x" * ((1 << 20) + 1)
    headers = signed("github", body)
    assert http.post("/hooks/github", content=body, headers=headers).status_code == 413
    parts = (body[start : start + 65536] for start in range(0, len(body), 65536))
    assert http.post("/hooks/github", content=parts, headers=headers).status_code == 413
    assert http.post(
        "/hooks/github", content=body[1:], headers=signed("github", body[1:])
    ).is_success


def test_a_ping_of_github_is_answered_and_starts_nothing(controller, tmp_path):
    deploy = manifest("deploy", spec=TRIGGER.replace(", params: {region: eu}", "") % "github")
    http = serving(controller, tmp_path, {"ops/a.yaml": deploy})
    ping = {**signed("github"), "X-GitHub-Event": "ping"}
    assert http.post("/hooks/github", content=BODY, headers=ping).is_success
    assert controller.runs() == []
    ping["X-Hub-Signature-256"] = "sha256=00"
    assert http.post("/hooks/github", content=BODY, headers=ping).status_code == 401


def test_a_receiver_that_is_not_for_the_source_is_a_fault_of_the_manifest(controller, tmp_path):
    texts = {
        f"{source}/{name}.yaml": manifest(name, spec=f"  triggers: [{{webhook: {receiver}}}]\n")
        for source, name, receiver in (
            ("ops", "mine", "generic"),
            ("ops", "unknown", "nobody"),
            ("spare", "theirs", "generic"),
            ("ops", "closed", "empty"),
        )
    }
    http = serving(controller, tmp_path, texts, spare=["empty"])
    faults = {}
    for one in controller.until(
        lambda: len(found := controller.look(lambda r: r.workflows())) == 4 and found, "judged"
    ):
        faults[one.name] = next(c.message for c in one.conditions if c.type == "Ready")
    assert "receiver 'nobody' is not in the configuration" in faults["unknown"]
    assert "receiver 'generic' is not for source 'spare'" in faults["theirs"]
    assert "receiver 'empty' is not for source 'ops'" in faults["closed"]
    assert http.post("/hooks/generic", content=BODY, headers=signed("generic")).is_success
    assert [run.workflow for run in controller.runs()] == ["mine"]


def test_a_webhook_has_its_sources_looked_at(controller, tmp_path):
    """The folder is watched as well; what shows is that the look was asked for, and harms not."""
    http = serving(controller, tmp_path, {"ops/a.yaml": manifest("first")})
    (tmp_path / "ops" / "b.yaml").write_text(manifest("second"))
    assert http.post("/hooks/generic", content=BODY, headers=signed("generic")).is_success
    controller.until(lambda: controller.look(lambda r: r.workflow("ops", "second")), "seen")


def test_what_was_answered_202_outlives_a_kill_at_once(controller, tmp_path):
    deploy = manifest("deploy", spec=TRIGGER.replace(", params: {region: eu}", "") % "generic")
    http = serving(controller, tmp_path, {"ops/a.yaml": deploy})
    headers = signed("generic")
    assert http.post("/hooks/generic", content=BODY, headers=headers).status_code == 202
    controller.kill()
    [run] = controller.runs()
    assert run.identity == "webhook:generic:d-1"
    controller.start()
    http = listening(controller)
    controller.until(lambda: controller.runs()[-1].phase.terminal, "it is settled")
    assert http.post("/hooks/generic", content=BODY, headers=headers).status_code == 409
    assert {one.trigger for one in controller.runs()} == {Trigger.WEBHOOK}


def test_forbid_skips_queue_waits_and_a_suspended_workflow_starts_nothing(controller, tmp_path):
    trigger = TRIGGER.replace(", params: {region: eu}", "") % "generic"
    http = serving(
        controller,
        tmp_path,
        {
            "ops/a.yaml": manifest("forbid", "sleep 600", trigger),
            "ops/b.yaml": manifest(
                "queue", "sleep 600", trigger + "  concurrencyPolicy: Queue\n  queueTimeout: 1s\n"
            ),
            "ops/c.yaml": manifest("asleep", spec=trigger + "  suspend: true\n"),
            "ops/d.yaml": manifest(
                "replace", "sleep 600", trigger + "  concurrencyPolicy: Replace\n"
            ),
        },
    )

    def deliver(number: int) -> None:
        headers = signed("generic", id_=f"d-{number}", at=time.time() + number)
        assert http.post("/hooks/generic", content=BODY, headers=headers).status_code == 202

    def ends(name: str) -> list[tuple[str, str]]:
        runs = sorted(controller.runs(workflow=name), key=lambda run: run.identity)
        return [(str(run.phase), run.reason) for run in runs]

    deliver(1)
    controller.until(lambda: ends("forbid") == [("Running", "")], "it runs")
    controller.until(lambda: ends("replace") == [("Running", "")], "it runs")
    deliver(2)
    assert ends("forbid")[1] == ("Skipped", "ConcurrencyForbidden")
    controller.until(lambda: ends("queue")[1] == ("Skipped", "QueueTimeout"), "it waited in vain")
    controller.until(
        lambda: ends("replace") == [("Cancelled", "Replaced"), ("Running", "")], "it took its place"
    )
    assert ends("asleep") == []
    for run in controller.runs(phases=[Phase.RUNNING]):
        http.post(f"/api/v1/runs/{run.id}/cancel", json={"now": True})
    controller.until(lambda: not controller.runs(phases=[Phase.RUNNING]), "all are over")


def test_a_flood_from_one_address_is_told_to_wait(controller, tmp_path):
    http = serving(controller, tmp_path, {})
    answers = [http.post("/hooks/nobody", content=b"").status_code for _ in range(400)]
    assert set(answers) == {401, 429}
    assert http.get("/healthz").status_code == 200


def test_the_shell_line_of_the_guide_is_taken(controller, tmp_path):
    http = serving(controller, tmp_path, {})
    page = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "webhooks.md"
    [script] = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    script = script.replace("https://rondel.example.com/hooks/deploy-hook", "$URL")
    (tmp_path / "hook-key").write_text(f"{SECRET}\n")
    socket = str(socket_path(controller.state))
    done = subprocess.run(
        ["sh", "-eu", "-c", script.replace("curl ", f"curl --unix-socket {socket} ")],
        cwd=tmp_path,
        env=environment(URL="http://rondel/hooks/generic"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"receiver": "generic", "outcome": "Taken"}
    told = http.get("/api/v1/events").json()["items"]
    taken = [one["data"] for one in told if one["reason"] == "DeliveryTaken"]
    assert [one["receiver"] for one in taken] == ["generic"]


def test_before_its_source_was_loaded_a_webhook_is_put_off_and_not_lost(controller, tmp_path):
    """Nobody knows yet what names the receiver: the sender is told to come again."""
    file = configure(tmp_path)
    config = json.loads(file.read_text())
    repository = tmp_path / "later"
    config["sources"][0] = {
        "name": "ops",
        "kind": "Git",
        "url": repository.as_uri(),
        "trusted": True,
        "interval": "1s",
    }
    file.write_text(json.dumps(config))
    controller.start()
    http = listening(controller)
    headers = signed("generic")
    put_off = http.post("/hooks/generic", content=BODY, headers=headers)
    assert put_off.status_code == 503
    assert put_off.json()["detail"] == "source 'ops' has not been loaded yet"
    repository.mkdir()
    (repository / "a.yaml").write_text(
        manifest("deploy", spec="  triggers: [{webhook: generic}]\n")
    )
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", "-C", repository, *words], check=True)
    controller.until(
        lambda: http.post("/hooks/generic", content=BODY, headers=headers).status_code == 202,
        "its source was loaded",
    )
    assert [run.workflow for run in controller.runs()] == ["deploy"]
