"""What deploy/ says holds: the unit, the image, Compose and Kubernetes name what there is."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller import config
from controller.model.settings import Settings
from controller.model.workflow import Workflow
from controller.serve.address import socket_path
from controller.serve.app import create_app
from controller.serve.metrics import Metrics
from tests.conftest import environment
from tests.e2e.controller_process import ControllerProcess

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "rondel.service"
STATE = "/var/lib/rondel"
DAGGER_HOST = "_EXPERIMENTAL_DAGGER_RUNNER_HOST"


def documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / path).read_text()))


COMPOSE = documents("compose/compose.yaml")[0]
OBJECTS = {one["kind"]: one for one in documents("kubernetes/rondel.yaml")}
POD = OBJECTS["StatefulSet"]["spec"]["template"]
CONTROLLER = POD["spec"]["containers"][0]
ENGINE = POD["spec"]["initContainers"][0]


def seconds_to_end() -> float:
    """How long an orderly end may take with every default."""
    settings = Settings(state_dir=Path(STATE))
    end = Workflow(name="w", steps=()).finally_timeout
    return (settings.shutdown_grace + end).total_seconds()


def routes() -> set[str]:
    app = create_app(None, None, Metrics(), None)  # type: ignore[arg-type]  # nothing is asked of it
    return set(app.openapi()["paths"])


# systemd


@pytest.fixture
def analyzed(tmp_path):
    """The unit with a program that is there, so that only the unit is judged."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/rondel/bin/rondel", sys.executable))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *words, str(unit)], capture_output=True, text=True, check=False
        )

    return run


def test_systemd_understands_every_line_of_the_unit(analyzed):
    done = analyzed("verify", "--man=no")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_unit_leaves_little_exposed(analyzed):
    done = analyzed("security", "--offline=true", "--threshold=25")
    assert done.returncode == 0, done.stdout


def unit() -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))


def test_the_unit_waits_for_an_orderly_end_and_signals_the_controller_alone():
    told = unit()
    assert told["KillMode"] == "mixed"
    assert int(told["TimeoutStopSec"].removesuffix("min")) * 60 > seconds_to_end()
    assert told["Delegate"] == "yes"
    assert f"/var/lib/{told['StateDirectory']}" == STATE


# Compose


def test_compose_sets_what_the_configuration_knows():
    controller = COMPOSE["services"]["controller"]
    overrides(controller["environment"])
    assert controller["environment"][DAGGER_HOST] == "tcp://engine:1234"
    assert "tcp://0.0.0.0:1234" in COMPOSE["services"]["engine"]["command"]
    assert int(controller["stop_grace_period"].removesuffix("m")) * 60 > seconds_to_end()
    assert controller["healthcheck"]["test"][-1] in routes()


def test_compose_names_only_volumes_networks_secrets_and_services_that_it_declares():
    for service in COMPOSE["services"].values():
        named = {volume.split(":")[0] for volume in service["volumes"]}
        assert {name for name in named if name.isalpha()} <= COMPOSE["volumes"].keys()
        assert {*service["networks"]} <= COMPOSE["networks"].keys()
        assert {*service.get("secrets", ())} <= COMPOSE["secrets"].keys()
        assert {*service.get("depends_on", ())} <= COMPOSE["services"].keys()
    assert COMPOSE["networks"]["engine"]["internal"] is True
    assert "ports" not in COMPOSE["services"]["engine"]


def test_the_configuration_beside_compose_is_one():
    settings = config.load(DEPLOY / "compose" / "rondel.yaml")
    assert [source.name for source in settings.sources] == ["main"]
    assert {one.file for one in settings.secrets.values()} == {"/run/secrets/git-token"}


# Kubernetes


def test_the_manifests_hold_one_controller_whose_labels_are_selected():
    assert {*OBJECTS} == {"Namespace", "ConfigMap", "StatefulSet"}
    for kind, one in OBJECTS.items():
        assert one["apiVersion"] == ("apps/v1" if kind == "StatefulSet" else "v1")
        assert one["metadata"]["name"] == "rondel"
        assert kind == "Namespace" or one["metadata"]["namespace"] == "rondel"
    spec = OBJECTS["StatefulSet"]["spec"]
    assert spec["replicas"] == 1
    assert spec["selector"]["matchLabels"].items() <= POD["metadata"]["labels"].items()
    assert POD["spec"]["terminationGracePeriodSeconds"] > seconds_to_end()


def test_every_mount_has_its_volume_and_every_volume_is_mounted():
    made = {
        one["metadata"]["name"] for one in OBJECTS["StatefulSet"]["spec"]["volumeClaimTemplates"]
    }
    made |= {one["name"] for one in POD["spec"]["volumes"]}
    mounted = {
        mount["name"]
        for container in (*POD["spec"]["containers"], *POD["spec"]["initContainers"])
        for mount in container["volumeMounts"]
    }
    assert mounted == made
    paths = {mount["name"]: mount["mountPath"] for mount in CONTROLLER["volumeMounts"]}
    assert paths["state"] == STATE


def test_the_probes_ask_routes_that_there_are():
    asked = {
        CONTROLLER[name]["exec"]["command"][-1]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert asked == {"/healthz", "/readyz"}
    assert asked <= routes()


def test_only_the_engine_is_privileged():
    assert ENGINE["securityContext"] == {"privileged": True}
    said = CONTROLLER["securityContext"]
    assert said["runAsNonRoot"]
    assert said["capabilities"] == {"drop": ["ALL"]}
    assert not said["allowPrivilegeEscalation"]


def test_kubernetes_sets_what_the_configuration_knows(tmp_path):
    variables = {one["name"]: one["value"] for one in CONTROLLER["env"]}
    overrides(variables)
    assert variables[DAGGER_HOST] in ENGINE["args"]
    file = tmp_path / "rondel.yaml"
    file.write_text(OBJECTS["ConfigMap"]["data"]["rondel.yaml"])
    settings = config.load(file)
    secrets = next(m["mountPath"] for m in CONTROLLER["volumeMounts"] if m["name"] == "secrets")
    assert {Path(one.file or "").parent for one in settings.secrets.values()} == {Path(secrets)}


def overrides(variables: dict[str, str]) -> None:
    """Raise where a variable sets what is no setting."""
    known = {name: text for name, text in variables.items() if name.startswith(config.OVERRIDE)}
    assert {*variables} - {*known} == {DAGGER_HOST}
    config.override({}, "Config", known)


# The image


def lines() -> Iterator[str]:
    text = (DEPLOY / "container" / "Containerfile").read_text().replace("\\\n", " ")
    return (line for line in text.splitlines() if line and not line.startswith("#"))


def test_the_image_copies_what_there_is_pins_what_it_installs_and_is_nobody_s_root():
    told = [line.split(maxsplit=1) for line in lines()]
    for word, rest in told:
        if word == "COPY" and "--from=" not in rest:
            sources = [part for part in rest.split()[:-1] if not part.startswith("--")]
            assert [one for one in sources if not (ROOT / one).exists()] == []
    assert any("pip install" in rest and "-c constraints.txt" in rest for _, rest in told)
    (user,) = [rest for word, rest in told if word == "USER"]
    said = CONTROLLER["securityContext"]
    assert user == f"{said['runAsUser']}:{POD['spec']['securityContext']['fsGroup']}"


def test_the_probe_asks_a_controller_and_says_no_where_there_is_none(tmp_path):
    def probe(path: str) -> int:
        return subprocess.run(
            [sys.executable, str(DEPLOY / "container" / "probe.py"), path],
            env=environment(RONDEL_STATE_DIR=str(tmp_path / "state")),
            capture_output=True,
            check=False,
        ).returncode

    assert socket_path(Path(STATE)) == Path(STATE) / "api" / "rondel.sock"
    assert probe("/healthz") == 1
    (tmp_path / "workflows").mkdir()
    daemon = ControllerProcess(tmp_path, "--source", str(tmp_path / "workflows")).start()
    try:
        daemon.until(lambda: daemon.events("listening"), "it listens")
        assert [probe(path) for path in ("/healthz", "/readyz", "/nowhere")] == [0, 0, 1]
    finally:
        daemon.stop()
