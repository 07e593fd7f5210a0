import json
import re

import pytest
import typer
from typer.testing import CliRunner

from controller import manifest
from controller.cli import author
from controller.cli.author_text import to_yaml
from controller.errors import UsageError
from controller.manifest import tree
from controller.manifest.document import read_document

GOOD = """\
apiVersion: rondel/v1alpha1
kind: Workflow
metadata: {name: good}
spec:
  defaults: {env: {ANSWER: "on", SCI: "1e3"}}
  steps:
    - name: first
      script: |
        echo one
        echo two
      outputs: {n: {path: n.txt}}
    - name: second-step
      args: [echo, "${{ steps.first.outputs.n }}"]
  finally:
    - {name: clean, script: x}
"""
TEN = """\
apiVersion: rondel/v1alpha1
kind: Workflow
metadata: {name: Ten}
spec:
  parms: []
  timeout: 5 minutes
  schedules: [{cron: "0 0 31 2 *"}]
  steps:
    - {name: a, script: "echo ${{ run.id }}", needs: [b]}
    - {name: b, args: [sleep, 5], needs: [a]}
    - {name: b, script: x, retry: {limit: 101}}
    - {name: c, script: x, env: {X: "${{ params.y }}"}}
    - {name: d, script: x, args: [y], matrix: {x: [1]}}
"""
LINE = re.compile(r"^\S+:\d+:\d+: /\S+: .+; .+$")


@pytest.fixture
def rondel():
    app = typer.Typer(rich_markup_mode=None)
    for name in ("validate", "render", "schema", "graph", "init"):
        app.command(name)(getattr(author, name))
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "good.yaml").write_text(GOOD)
    return tmp_path


def test_validate_lists_ten_faults_one_a_line(rondel, folder):
    (folder / "ten.yaml").write_text(TEN)
    result = rondel("validate", folder)
    lines = result.stdout.splitlines()
    faults = [line for line in lines if LINE.match(line)]
    assert result.exit_code == 2
    assert len(faults) >= 10
    assert lines[-1] == f"2 manifests in 2 files: {len(faults)} faults"


def test_validate_prints_its_list_as_json_in_every_outcome(rondel, folder):
    result = rondel("validate", folder, "-o", "json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    (folder / "ten.yaml").write_text(TEN)
    result = rondel("validate", folder, "-o", "json")
    assert result.exit_code == 2
    keys = {"file", "line", "column", "pointer", "problem", "remedy"}
    assert all(set(fault) == keys for fault in json.loads(result.stdout))


def test_validate_finds_two_manifests_with_one_name(rondel, folder):
    (folder / "copy.yml").write_text(GOOD)
    result = rondel("validate", folder)
    assert result.exit_code == 2
    assert "copy.yml:1" in result.stdout


def test_validate_skips_dotted_names_and_lists_other_yaml(rondel, folder):
    (folder / ".hidden.yaml").write_text("a: [")
    (folder / "other.yaml").write_text("kind: Pod\n")
    result = rondel("validate", folder, "-v")
    assert result.exit_code == 0
    assert "other.yaml: 1 document of other YAML ignored" in result.stdout
    assert ".hidden" not in result.stdout


def test_validate_counts_the_secrets_that_the_configuration_defines(rondel, folder):
    text = GOOD.replace("name: first", "name: first\n      secrets: [{name: A, secret: db}]")
    (folder / "good.yaml").write_text(text)
    assert "1 secret" in rondel("validate", folder).stdout


def test_validate_warns_of_days_that_daylight_saving_takes_or_repeats(rondel, folder):
    schedule = '  schedules: [{cron: "*/30 2 * * *", timeZone: Europe/Berlin}]\n  steps:'
    (folder / "good.yaml").write_text(GOOD.replace("  steps:", schedule, 1))
    result = rondel("validate", folder)
    assert result.exit_code == 0
    assert result.stdout == "1 manifest in 1 file: no faults\n"
    assert "good.yaml:1: '*/30 2 * * *' in Europe/Berlin never runs on" in result.stderr
    assert rondel("validate", folder, "-o", "json").stderr == ""


def test_validate_of_a_path_that_is_not_there_is_a_usage_error(rondel, folder):
    result = rondel("validate", folder / "gone.yaml")
    assert isinstance(result.exception, UsageError)


def test_a_broken_link_is_a_fault_of_that_file(rondel, folder):
    (folder / "broken.yaml").symlink_to(folder / "gone.yaml")
    result = rondel("validate", folder)
    assert result.exit_code == 2
    assert "broken.yaml" in result.stdout


def test_render_applies_defaults_and_shows_implied_needs(rondel, folder):
    result = rondel("render", folder / "good.yaml")
    value = tree.value(tree.read(result.stdout.encode()).trees[0].root)
    first, second = value["spec"]["steps"]
    assert first["env"] == {"ANSWER": "on", "SCI": "1e3"}
    assert second["needs"] == ["first"]
    assert "defaults" not in value["spec"]
    assert "script: |" in result.stdout


def test_what_render_prints_is_valid_and_runs_the_same(rondel, folder):
    printed = rondel("render", folder / "good.yaml").stdout
    files = [manifest.parse_file("a.yaml", text.encode()) for text in (GOOD, printed)]
    before, after = [manifest.workflow(one.documents[0].body or "") for one in files]
    assert after == before


def test_render_of_a_faulty_file_is_a_usage_error_with_its_faults(rondel, folder):
    (folder / "ten.yaml").write_text(TEN)
    result = rondel("render", folder / "ten.yaml")
    assert isinstance(result.exception, UsageError)
    assert "/spec/parms" in str(result.exception)


def test_a_file_with_several_workflows_needs_a_name(rondel, folder):
    (folder / "two.yaml").write_text(GOOD + "---\n" + GOOD.replace("name: good", "name: better"))
    result = rondel("graph", folder / "two.yaml")
    assert "--workflow" in str(result.exception)
    assert rondel("graph", folder / "two.yaml", "--workflow", "better").stdout.startswith("better")


def test_graph_shows_who_waits_for_whom(rondel, folder):
    text = rondel("graph", folder / "good.yaml").stdout
    assert "second-step  <- first" in text
    assert "finally" in text
    dot = rondel("graph", folder / "good.yaml", "-o", "dot").stdout
    assert '"first" -> "second-step";' in dot
    nodes = json.loads(rondel("graph", folder / "good.yaml", "-o", "json").stdout)["steps"]
    assert nodes[1] == {"name": "second-step", "section": "steps", "layer": 2, "needs": ["first"]}


def test_schema_prints_the_schema_of_a_kind(rondel):
    assert json.loads(rondel("schema").stdout)["title"] == "Workflow"
    assert rondel("schema", "workflow").stdout == rondel("schema").stdout
    assert isinstance(rondel("schema", "nothing").exception, UsageError)


def test_init_writes_what_validates_and_never_overwrites(rondel, tmp_path):
    folder = tmp_path / "new"
    assert rondel("init", folder).exit_code == 0
    assert rondel("validate", folder).exit_code == 0
    configuration = folder / "rondel.yaml"
    assert read_document("Config", "rondel.yaml", configuration.read_bytes())[1] == ()
    again = rondel("init", folder)
    assert isinstance(again.exception, UsageError)


@pytest.mark.parametrize("text", ["on", "1e3", "0o17", "null", "", " x ", "a\nb\n", "a: b", "*x", "012", "\t", "é\n\tx"])  # fmt: skip
def test_yaml_that_we_print_reads_back_as_it_was(text):
    value = {"a": [text, {"b": text}], "c": [1, 1.5, None, True]}
    assert tree.value(tree.read(to_yaml(value).encode()).trees[0].root) == value
