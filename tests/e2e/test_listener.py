"""The TCP address: tokens and their roles, Host and Origin, TLS, and what is refused at the start."""

import json
import socket
import ssl
import subprocess
import sys
from typing import Any

import httpx
import pytest

from controller.model.run import Phase
from tests.conftest import environment
from tests.e2e.controller_process import ControllerProcess, manifest
from tests.e2e.test_webhooks import BODY, SECRET, signed

ANYWHERE = "0.0.0.0"  # noqa: S104 - that is what these tests are about
ROLES = ("viewer", "operator", "admin")


def rondel(state, *words, **more):
    return subprocess.run(
        [sys.executable, "-m", "controller.cli.main", *words, "--state-dir", str(state)],
        capture_output=True,
        text=True,
        env=environment(**more),
        timeout=60,
        check=False,
    )


def token(state, name, role, *words):
    done = rondel(state, "token", "create", name, "--role", role, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bearer(text):
    return {"Authorization": f"Bearer {text}"}


@pytest.fixture
def started(tmp_path):
    """A controller that listens; and a client of its address."""
    made: list[Any] = []

    def start(address="127.0.0.1:0", *, verify=True, host=None, **config):
        (tmp_path / "ops").mkdir(exist_ok=True)
        (tmp_path / "ops" / "w.yaml").write_text(manifest("w"))
        (tmp_path / "key").write_text(SECRET)
        config |= {
            "sources": [{"name": "ops", "kind": "Directory", "path": "ops"}],
            "secrets": {"key": {"file": str(tmp_path / "key")}},
            "receivers": {"door": {"type": "generic", "secret": "key", "sources": ["ops"]}},
        }
        (tmp_path / "rondel.yaml").write_text(json.dumps(config))
        words = ("--config", str(tmp_path / "rondel.yaml"), "--listen", address)
        controller = ControllerProcess(tmp_path, *words).start()
        made.append(controller)
        [one] = controller.until(
            lambda: [one for one in controller.events("listening") if "address" in one],
            "it listens",
        )
        url = one["address"].replace(host or "", "127.0.0.1") if host else one["address"]
        client = httpx.Client(base_url=url, timeout=30, verify=verify)
        made.append(client)
        return controller, client

    yield start
    for one in reversed(made):
        if isinstance(one, httpx.Client):
            one.close()
        else:
            assert one.stop() == 0


def test_nothing_but_health_and_signed_webhooks_is_answered_without_a_token(started):
    _, http = started()
    assert [http.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
    closed = ("/metrics", "/openapi.json", "/api/v1/runs", "/nowhere", "/hooks/door")
    for path in closed:
        answer = http.get(path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"
    for wrong in ("Bearer rondel_nope", "Bearer", "Basic dTpw", "rondel_x"):
        assert http.get("/api/v1/runs", headers={"Authorization": wrong}).status_code == 401
    assert http.post("/hooks/door", content=BODY, headers=signed("generic")).status_code == 202
    assert http.post("/hooks/door", content=BODY).status_code == 401


def test_each_role_may_do_what_it_may_and_no_more(started):
    controller, http = started()
    base = "/api/v1/sources/ops"
    asked = {  # role that is needed -> requests
        "viewer": [
            ("GET", "/api/v1/runs"),
            ("GET", "/metrics"),
            ("GET", f"{base}/workflows/w"),
            ("GET", "/openapi.json"),
        ],
        "operator": [
            ("POST", f"{base}/reconcile"),
            ("POST", f"{base}/workflows/w/runs"),
            ("POST", "/api/v1/runs/none/cancel"),
            ("POST", "/api/v1/runs/none/retry"),
            ("POST", "/api/v1/runs/none/rerun"),
            ("POST", f"{base}/suspend"),
            ("POST", f"{base}/workflows/w/resume"),
            ("POST", f"{base}/workflows/w/backfills"),
        ],
        "admin": [
            ("POST", "/api/v1/cache/prune"),
            ("POST", "/api/v1/drain"),
            ("DELETE", "/api/v1/runs/none"),
        ],
    }
    for rank, role in enumerate(ROLES):
        headers = bearer(token(controller.state, f"t-{role}", role))
        for needed, requests in asked.items():
            for method, path in requests:
                got = http.request(method, path, headers=headers, json={}).status_code
                refused = got in {401, 403}
                assert refused is (rank < ROLES.index(needed)), (role, method, path, got)
    controller.until(
        lambda: all(run.phase is Phase.SUCCEEDED for run in controller.runs()), "its runs are over"
    )


def test_a_token_is_shown_once_kept_hashed_expires_and_can_be_removed(started):
    controller, http = started()
    text = token(controller.state, "ci", "viewer", "--expires", "90d")
    assert text.startswith("rondel_")
    assert http.get("/api/v1/runs", headers=bearer(text)).status_code == 200
    listed = json.loads(rondel(controller.state, "token", "ls", "-o", "json").stdout)
    assert [(one["name"], one["role"]) for one in listed] == [("ci", "viewer")]
    for path in controller.state.rglob("*"):
        if path.is_file():
            assert text.encode() not in path.read_bytes(), path
    assert rondel(controller.state, "token", "create", "ci", "--role", "admin").returncode == 2
    assert rondel(controller.state, "token", "rm", "ci").returncode == 0
    assert http.get("/api/v1/runs", headers=bearer(text)).status_code == 401
    assert rondel(controller.state, "token", "rm", "ci").returncode == 2
    brief = token(controller.state, "brief", "viewer", "--expires", "1ms")
    assert http.get("/api/v1/runs", headers=bearer(brief)).status_code == 401
    told = {one.reason for one in controller.look(lambda reader: reader.events())}
    assert {"TokenCreated", "TokenRemoved"} <= told


def test_a_foreign_host_or_origin_is_refused_with_a_token_too(started):
    controller, http = started(hosts=["Rondel.Example.com"])
    mine = bearer(token(controller.state, "me", "admin"))

    def status(**headers):
        named = {name.capitalize(): value for name, value in headers.items()}
        return http.get("/api/v1/runs", headers=mine | named).status_code

    assert status() == 200
    assert status(host="localhost:1") == 200
    assert status(host="[::1]:8080") == 200
    assert status(host="rondel.example.com") == 200
    assert status(host="evil.example.com") == 403
    assert status(host="") == 403
    own = str(http.base_url).rstrip("/")
    assert status(origin=own) == 200
    assert status(origin="http://evil.example.com") == 403
    assert status(origin="null") == 403
    headers = signed("generic") | {"Host": "hooks.example.com"}
    assert http.post("/hooks/door", content=BODY, headers=headers).status_code == 202


@pytest.fixture
def certificate(tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", key, "-out", cert, "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return {"cert": str(cert), "key": str(key)}


def test_with_a_certificate_it_speaks_tls_also_beyond_loopback(started, certificate):
    trusted = ssl.create_default_context(cafile=certificate["cert"])
    controller, http = started(f"{ANYWHERE}:0", tls=certificate, verify=trusted, host=ANYWHERE)
    assert str(http.base_url).startswith("https://")
    text = token(controller.state, "me", "viewer")
    assert http.get("/api/v1/runs", headers=bearer(text)).status_code == 200
    server = ("--server", str(http.base_url).rstrip("/"))
    operator = token(controller.state, "ops", "operator")
    words = ("reconcile", "ops", *server)
    assert rondel(controller.state, *words, RONDEL_TOKEN=operator).returncode == 4
    own = {"RONDEL_TOKEN": operator, "SSL_CERT_FILE": certificate["cert"]}
    assert rondel(controller.state, *words, **own).returncode == 0
    plain = str(http.base_url).replace("https", "http")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{plain}/healthz")


def test_an_address_beyond_loopback_without_tls_needs_to_be_called_insecure(started, tmp_path):
    (tmp_path / "a").mkdir()
    serve = ("serve", "--executor", "local", "--source", str(tmp_path / "a"))
    done = rondel(tmp_path / "state", *serve, "--listen", f"{ANYWHERE}:0")
    assert done.returncode == 2
    assert f"listen: {ANYWHERE}:0" in done.stderr
    assert "insecure: true" in done.stderr
    _, http = started(f"{ANYWHERE}:0", insecure=True, host=ANYWHERE)
    assert http.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("address", "said"),
    [("8080", "HOST:PORT"), ("127.0.0.1:99999", "HOST:PORT"), ("203.0.113.9:1", "insecure")],
)
def test_an_address_that_is_none_is_refused_at_the_start(tmp_path, address, said):
    (tmp_path / "a").mkdir()
    serve = ("serve", "--executor", "local", "--source", str(tmp_path / "a"))
    done = rondel(tmp_path / "state", *serve, "--listen", address)
    assert done.returncode == 2
    assert said in done.stderr


def test_an_address_that_is_taken_is_refused_at_the_start(tmp_path):
    (tmp_path / "a").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        serve = ("serve", "--executor", "local", "--source", str(tmp_path / "a"))
        done = rondel(tmp_path / "state", *serve, "--listen", address)
    assert done.returncode == 2
    assert f"listen: {address}: Address already in use" in done.stderr


def test_a_certificate_that_is_none_is_refused_at_the_start(tmp_path):
    config = {
        "sources": [{"name": "ops", "kind": "Directory", "path": "."}],
        "tls": {"cert": "rondel.yaml", "key": "rondel.yaml"},
    }
    (tmp_path / "rondel.yaml").write_text(json.dumps(config))
    serve = ("serve", "--executor", "local", "--config", str(tmp_path / "rondel.yaml"))
    done = rondel(tmp_path / "state", *serve, "--listen", "127.0.0.1:0")
    assert done.returncode == 2
    assert "PEM certificate" in done.stderr


def test_the_socket_needs_no_token_beside_the_address(started):
    controller, _ = started()
    done = rondel(controller.state, "reconcile", "ops")
    assert done.returncode == 0, done.stderr


def suspension(controller):
    return controller.look(lambda reader: reader.workflow("ops", "w")).suspension


def test_commands_act_over_the_address_with_a_token(started, tmp_path):
    controller, http = started()
    server = ("--server", str(http.base_url).rstrip("/"))
    empty = tmp_path / "elsewhere"
    text = token(controller.state, "ops", "operator")

    def call(*words, **more):
        return rondel(empty, *words, *server, **more)

    done = call("reconcile", "ops")
    assert done.returncode == 2
    assert "RONDEL_TOKEN" in done.stderr
    assert call("reconcile", "ops", RONDEL_TOKEN="rondel_wrong").returncode == 1
    assert call("reconcile", "ops", RONDEL_TOKEN=text).returncode == 0
    made = call("run", "ops/w", "-o", "json", RONDEL_TOKEN=text)
    assert made.returncode == 0, made.stderr
    run = json.loads(made.stdout)["id"]
    controller.until(
        lambda: controller.look(lambda r: r.run(run)).phase is Phase.SUCCEEDED, "it ran"
    )
    assert call("rerun", run, RONDEL_TOKEN=text).returncode == 0
    late = call("cancel", run, RONDEL_TOKEN=text)
    assert late.returncode == 1
    assert "is over" in late.stderr
    assert call("suspend", "source/ops", RONDEL_TOKEN=text).stdout == "source ops is suspended\n"
    assert call("resume", "source/ops", RONDEL_TOKEN=text).stdout == "source ops is resumed\n"
    assert call("suspend", "ops/w", RONDEL_TOKEN=text).stdout == "workflow ops/w is suspended\n"
    held = controller.until(lambda: suspension(controller), "it is suspended")
    assert held.by == "token ops", "who does it is not the caller's to say"
    assert call("resume", "ops/w", RONDEL_TOKEN=text).stdout == "workflow ops/w is resumed\n"
    span = ("--from", "2027-03-01", "--to", "2027-03-02", "--dry-run")
    filled = call("backfill", "ops/w", *span, RONDEL_TOKEN=text)
    assert "no schedule to fill" in filled.stderr
    assert "names no source" in call("backfill", "w", *span, RONDEL_TOKEN=text).stderr
    assert not empty.exists()


def test_a_server_that_is_not_there_exits_4(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = f"http://127.0.0.1:{free.getsockname()[1]}"
    done = rondel(tmp_path, "reconcile", "ops", "--server", server, RONDEL_TOKEN="rondel_x")
    assert done.returncode == 4
