"""The store as a whole: backed up beside a controller, put back, looked through, brought up to date."""

import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing

import pytest

from controller import layout
from controller import manifest as manifests
from controller.manifest.around import Around
from controller.model.run import Phase
from controller.store import BlobStore
from controller.store.connection import open_for_writing
from controller.store.migrations.run import upgrade
from controller.store.schema import HEAD
from tests.conftest import environment
from tests.e2e.controller_process import ON_CHANGE, PATIENCE_SECONDS, ControllerProcess, manifest
from tests.older_store import BEFORE, set_back

SECONDLY = '  schedules: [{name: s, cron: "* * * * * *"}]\n'
FOLDER = (
    "apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {name: kept}\nspec:\n" + ON_CHANGE + "  steps:\n    - name: a\n"
    "      cache: {mode: Auto}\n      script: mkdir out; echo one > out/one; echo said\n"
    "      artifacts: [{name: out, path: out}]\n"
)  # fmt: skip


@pytest.fixture
def controller(tmp_path):
    folder = tmp_path / "w"
    folder.mkdir()
    (folder / "tick.yaml").write_text(manifest("tick", "echo tick", SECONDLY))
    (folder / "kept.yaml").write_text(FOLDER)
    made = ControllerProcess(tmp_path, "--source", str(folder)).start()
    made.until(lambda: made.runs(workflow="kept", phases={Phase.SUCCEEDED}), "it has run")
    made.until(lambda: made.runs(workflow="tick", phases={Phase.SUCCEEDED}), "a slot has run")
    yield made
    made.stop()


def test_a_backup_of_a_busy_controller_is_put_back_elsewhere(controller, tmp_path, rondel):
    file = tmp_path / "store.tar"
    said = rondel("db", "backup", file)
    assert said.returncode == 0, said.stderr
    assert rondel("db", "backup", file).returncode == 1, "nothing is overwritten"
    other = tmp_path / "other"
    assert rondel("db", "restore", file, "--state-dir", other).returncode == 0
    assert rondel("db", "verify", "--state-dir", other).stdout == f"{other}: no faults\n"
    run = controller.runs(workflow="kept")[0].id
    told = rondel("logs", run, "--state-dir", other)
    assert told.stdout == "a | said\n"
    again = rondel("db", "restore", file, "--state-dir", other)
    assert again.returncode == 1
    assert "--force" in again.stderr
    forced = rondel("db", "restore", file, "--force", "--state-dir", other)
    assert forced.returncode == 0, forced.stderr
    assert "what was there lies in" in forced.stdout
    assert rondel("db", "verify", "--state-dir", other).returncode == 0


def test_nothing_is_put_back_or_upgraded_under_a_controller(controller, tmp_path, rondel):
    file = tmp_path / "store.tar"
    rondel("db", "backup", file)
    for words in (("restore", file, "--force"), ("upgrade",)):
        said = rondel("db", *words)
        assert said.returncode == 1
        assert "a controller already serves this directory" in said.stderr


def log_of(controller, workflow):
    """Return where the log of a run of that workflow lies."""
    run = controller.runs(workflow=workflow, phases={Phase.SUCCEEDED})[0].id
    [attempt] = controller.look(lambda reader: reader.attempts(run))
    return BlobStore(layout.blobs(controller.state)).path(attempt.log)


def test_damage_is_found_and_told_by_a_backup_and_no_path_leads_out_of_one(
    controller, tmp_path, rondel
):
    controller.stop()
    assert rondel("db", "verify").returncode == 0
    blobs = [log_of(controller, workflow) for workflow in ("tick", "kept")]
    blobs[0].write_bytes(b"another")
    blobs[1].unlink()
    with sqlite3.connect(controller.state / "rondel.db") as database:
        database.execute(
            "UPDATE step_run SET run = 'nobody' WHERE run = "
            "(SELECT id FROM run WHERE workflow = 'kept' LIMIT 1)"
        )
    said = rondel("db", "verify")
    assert said.returncode == 1
    assert "its content is another" in said.stdout
    assert "No such file" in said.stdout
    assert "1 steps of runs that aren't there" in said.stdout
    file = tmp_path / "store.tar"
    made = rondel("db", "backup", file)
    assert "blobs were not there" in made.stdout
    put_back = rondel("db", "restore", file, "--state-dir", tmp_path / "third")
    assert put_back.returncode == 0, "what the backup said it is without is no surprise"
    assert "blobs were not there" in put_back.stdout
    with tarfile.open(file, "w") as archive:
        archive.add(blobs[0], "../../outside")
    out = rondel("db", "restore", file, "--state-dir", tmp_path / "other")
    assert out.returncode == 1
    assert not (tmp_path / "outside").exists()


def test_an_older_store_is_upgraded_after_a_copy_and_a_newer_one_refused(
    controller, tmp_path, rondel
):
    controller.stop()
    assert "nothing to do" in rondel("db", "upgrade").stdout
    database = controller.state / "rondel.db"
    set_back(database)
    assert rondel("get", "runs").returncode == 4
    said = rondel("db", "upgrade")
    assert said.returncode == 0, said.stderr
    assert f"upgraded from schema {BEFORE} to {HEAD}" in said.stdout
    assert [one.name for one in controller.state.glob(f"rondel-{BEFORE}-*.db")]
    assert rondel("get", "runs").returncode == 0
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    newer = rondel("db", "upgrade")
    assert newer.returncode == 1
    assert "schema 9999" in newer.stderr


def put(connection, table, **values):
    """Insert a row; columns that it doesn't name are empty, as their types have it."""
    for _, name, kind, needed, default, _ in connection.execute(f"PRAGMA table_info({table})"):
        if needed and default is None and name not in values:
            values[name] = 0 if "INT" in kind else ""
    columns = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join("?" * len(values))
    line = f"INSERT INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608 - names of this file
    connection.execute(line, [*values.values()])


def first_store(path):
    """Make a store as the first schema had it, whose controller died amid a run."""
    _, body = manifests.build_workflow(
        {"name": "old"}, {"steps": [{"name": "a", "script": "true"}]}, around=Around()
    )
    then = "2026-01-01T00:00:00.000000Z"
    ids = {"source": "w", "workflow": "old", "created_at": then, "time_zone": "UTC"}
    texts = {"params": "{}", "inputs": "{}", "versions": "{}", "outputs": "{}"}
    lost = {"trigger": "Manual", "instance": "serve-gone", "spec": "sha256:1", **ids, **texts}
    with closing(open_for_writing(path)) as connection:
        upgrade(connection, "0001")
        put(connection, "instance", id="serve-gone", kind="serve", started_at=then)
        put(connection, "spec", digest="sha256:1", body=body)
        put(
            connection,
            "run",
            id="old-1",
            identity="manual:1",
            phase="Running",
            started_at=then,
            **lost,
        )
        put(
            connection,
            "step_run",
            run="old-1",
            name="a",
            section="steps",
            phase="Running",
            outputs="{}",
            artifacts="{}",
            started_at=then,
        )
        put(
            connection,
            "attempt",
            run="old-1",
            step="a",
            number=1,
            nonce="0" * 32,
            phase="Running",
            started_at=then,
        )
        connection.execute("UPDATE step_run SET attempts = 1")  # fmt: skip


def test_a_store_of_the_first_schema_with_a_run_in_flight_is_upgraded_and_settled(tmp_path, rondel):
    state, folder = tmp_path / "state", tmp_path / "w"
    state.mkdir(mode=0o700)
    folder.mkdir()
    first_store(state / "rondel.db")
    said = rondel("db", "upgrade")
    assert said.returncode == 0, said.stderr
    assert "upgraded from schema 0001 to " in said.stdout
    [copy] = state.glob("rondel-0001-*.db")
    with closing(sqlite3.connect(copy)) as database:
        assert database.execute("SELECT id, phase FROM run").fetchall() == [("old-1", "Running")]
    assert rondel("db", "verify").returncode == 0
    controller = ControllerProcess(tmp_path, "--source", str(folder)).start()
    try:
        [settled] = controller.until(
            lambda: controller.runs(phases={Phase.INTERRUPTED}), "the lost run is settled"
        )
        assert (settled.id, settled.workflow) == ("old-1", "old")
        assert rondel("describe", "run", "old-1").returncode == 0
    finally:
        controller.stop()


def test_nothing_is_put_back_under_a_living_exec(tmp_path, rondel):
    go = tmp_path / "go"
    (tmp_path / "slow.yaml").write_text(manifest("slow", f"until [ -e {go} ]; do sleep 0.05; done"))
    (tmp_path / "quick.yaml").write_text(manifest("quick", "true"))
    assert rondel("exec", "quick.yaml", "--executor", "local").returncode == 0
    file = tmp_path / "store.tar"
    assert rondel("db", "backup", file).returncode == 0
    words = ("exec", "slow.yaml", "--executor", "local", "--state-dir", str(tmp_path / "state"))
    running = subprocess.Popen(
        [sys.executable, "-m", "controller.cli.main", *words],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until_running(rondel, running)
        refused = rondel("db", "restore", file, "--force")
    finally:
        go.touch()
        assert running.wait(timeout=PATIENCE_SECONDS) == 0
    assert refused.returncode == 1
    assert "it is in use by exec-" in refused.stderr
    assert rondel("db", "restore", file, "--force").returncode == 0


def until_running(rondel, process):
    while "Running" not in rondel("get", "runs").stdout:
        assert process.poll() is None, "it ended before it was seen to run"
