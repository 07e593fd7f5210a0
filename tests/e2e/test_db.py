"""The store as a whole: backed up beside a controller, put back, looked through, brought up to date."""

import sqlite3
import tarfile

import pytest

from controller.model.run import Phase
from tests.e2e.controller_process import ON_CHANGE, ControllerProcess, manifest

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


def test_damage_is_found_and_a_damaged_backup_is_refused(controller, tmp_path, rondel):
    controller.stop()
    assert rondel("db", "verify").returncode == 0
    blobs = sorted(one for one in (controller.state / "blobs").glob("??/*"))
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
    refused = rondel("db", "restore", file, "--state-dir", tmp_path / "other")
    assert refused.returncode == 1
    assert not (tmp_path / "other" / "rondel.db").exists()
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
    with sqlite3.connect(database) as connection:
        connection.execute("DROP INDEX run_by_rerun")
        connection.execute("DROP TABLE history_limit")
        connection.execute("UPDATE alembic_version SET version_num = '0006'")
    assert rondel("get", "runs").returncode == 4
    said = rondel("db", "upgrade")
    assert said.returncode == 0, said.stderr
    assert "upgraded from schema 0006 to 0007" in said.stdout
    assert [one.name for one in controller.state.glob("rondel-0006-*.db")]
    assert rondel("get", "runs").returncode == 0
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    newer = rondel("db", "upgrade")
    assert newer.returncode == 1
    assert "schema 9999" in newer.stderr
