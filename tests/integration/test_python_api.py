"""Workflows that a program builds, executed as real processes on a store of their own."""

import json

import pytest

from controller.errors import UsageError
from controller.manifest import schema
from controller.orchestrator import OrchestrationEngine, Task
from tests.dagger_double.cli import Cli
from tests.dagger_double.engine import Engine

FETCHER = {
    "inputs": {
        "type": "object",
        "required": ["url"],
        "properties": {"url": {"type": "string"}, "format": {"enum": ["json", "csv"]}},
    },
    "container": {"image": "x", "script": "echo '[1, 2, 3]' > rows.json; echo fetched > log.txt"},
    "outputs": {"rows": {"path": "rows.json", "type": "json"}},
    "artifacts": [{"name": "log", "path": "log.txt"}],
}
PROCESSOR = {
    "container": {"image": "x", "script": 'cp "$RONDEL_INPUTS" got.json'},
    "outputs": {"got": {"path": "got.json", "type": "json"}},
}
SUMMER = """\
apiVersion: rondel/v1alpha1
kind: Agent
metadata: {name: summer}
spec:
  inputs: {type: object, required: [rows], properties: {rows: {type: array}}}
  container:
    image: python:3.12-slim
    script: |
      python3 -c 'import json, os; print(sum(json.load(open(os.environ["RONDEL_INPUTS"]))["rows"]))' > sum
  outputs: {sum: {path: sum, type: integer}}
"""
READER = """\
apiVersion: rondel/v1alpha1
kind: Agent
metadata: {name: reader}
spec:
  container: {image: x, script: cp data.txt text, mounts: [{input: data, path: data.txt}]}
  outputs: {text: {path: text}}
"""


@pytest.fixture
def config(tmp_path):
    agents = {"data_fetcher": FETCHER, "data-processor": PROCESSOR}
    return {"stateDir": str(tmp_path / "state"), "dagger": {"agents": agents}}


@pytest.fixture
def engine(config, tmp_path, monkeypatch):
    monkeypatch.delenv("RONDEL_STATE_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    return OrchestrationEngine(config)


def test_tasks_pass_typed_outputs_on_and_the_result_tells_of_each(engine):
    workflow = engine.create_workflow(name="example_workflow", description="Example")
    fetch = workflow.add_task(
        name="fetch_data", agent="data-fetcher", inputs={"url": "https://x.test", "format": "json"}
    )
    workflow.add_task(
        name="process_data",
        agent="data_processor",
        inputs={"operation": "transform", "rows": fetch.output("rows"), "said": f"{fetch}"},
        depends_on=[fetch],
    )
    result = engine.execute_workflow(workflow_id=workflow.id, engine_type="local")
    assert (result.phase, result.succeeded) == ("Succeeded", True), result
    assert list(result.tasks) == ["fetch_data", "process_data"]
    fetched, processed = result.tasks.values()
    assert fetched.outputs == {"rows": [1, 2, 3]}
    assert fetched.artifacts["log"]
    assert (fetched.attempts, fetched.cached, fetched.error) == (1, False, "")
    assert processed.outputs["got"] == {
        "operation": "transform",
        "rows": [1, 2, 3],
        "said": "fetch-data",
    }


def test_a_task_is_its_id_and_depends_on_takes_both(engine):
    workflow = engine.create_workflow("w")
    fetch = workflow.add_task("fetch_data", "data_fetcher", {"url": "x"})
    assert (fetch, fetch.name) == ("fetch-data", "fetch_data")
    assert isinstance(fetch, Task)
    for number, needs in enumerate(([fetch], ["fetch-data"], ["fetch_data"])):
        workflow.add_task(f"after{number}", "data_processor", depends_on=needs)
    assert [step["needs"] for step in workflow.spec()["steps"][1:]] == [["fetch-data"]] * 3


def test_a_failed_task_says_why_and_its_dependants_are_skipped(config, tmp_path, engine):
    config["dagger"]["agents"]["broken"] = {"container": {"image": "x", "script": "exit 3"}}
    engine = OrchestrationEngine(config)
    workflow = engine.create_workflow("w")
    broken = workflow.add_task("broken", "broken")
    workflow.add_task("after", "data_processor", depends_on=[broken])
    result = engine.execute_workflow(workflow.id, engine_type="local", skip_cache=True)
    assert (result.phase, result.succeeded) == ("Failed", False)
    assert result.tasks["broken"].phase == "Failed"
    assert "3" in result.tasks["broken"].error
    assert result.tasks["after"].phase == "Skipped"
    assert result.tasks["after"].attempts == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"agent": "data_fecher"}, r"no agent 'data_fecher'.*did you mean 'data_fetcher'"),
        ({"agent": "data_fetcher", "inputs": {}}, r"task t.*'url' is a required property"),
        ({"agent": "data_fetcher", "inputs": {"url": 3}}, r"/inputs/url.*not of type 'string'"),
        (
            {"agent": "data_fetcher", "inputs": {"url": "x", "format": "xml"}},
            r"/inputs/format.*'xml' is not one of",
        ),
        ({"agent": "data_processor", "depends_on": ["nobody"]}, r"task t: depends on 'nobody'"),
    ],
)
def test_add_task_refuses(engine, words, told):
    with pytest.raises(UsageError, match=told):
        engine.create_workflow("w").add_task("t", **words)


def test_a_name_is_taken_once_however_it_is_written(engine):
    workflow = engine.create_workflow("w")
    workflow.add_task("a_b", "data_processor")
    with pytest.raises(UsageError, match="already"):
        workflow.add_task("a-b", "data_processor")


def test_an_output_that_does_not_fit_fails_the_task_not_the_program(config, tmp_path, engine):
    config["dagger"]["agents"]["strict"] = {
        **PROCESSOR,
        "inputs": {"type": "object", "properties": {"rows": {"type": "string"}}},
    }
    engine = OrchestrationEngine(config)
    workflow = engine.create_workflow("w")
    fetch = workflow.add_task("fetch", "data_fetcher", {"url": "x"})
    workflow.add_task("strict", "strict", {"rows": fetch.output("rows")})
    result = engine.execute_workflow(workflow.id, engine_type="local")
    assert result.phase != "Succeeded"
    assert "is not of type 'string'" in result.tasks["strict"].error


def test_an_output_that_no_task_has_is_told_before_a_run_is_made(engine, tmp_path):
    workflow = engine.create_workflow("w")
    fetch = workflow.add_task("fetch", "data_fetcher", {"url": "x"})
    workflow.add_task("process", "data_processor", {"rows": fetch.output("lines")})
    with pytest.raises(UsageError, match="lines"):
        engine.execute_workflow(workflow.id, engine_type="local")
    assert not (tmp_path / "state" / "rondel.db").exists()


@pytest.mark.parametrize("named", [None, "workflows", "elsewhere"])
def test_agents_of_manifests_in_the_workflow_directory(config, tmp_path, monkeypatch, named):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / (named or "workflows") / "agents"
    folder.mkdir(parents=True)
    (folder / "summer.yaml").write_text(SUMMER)
    engine = OrchestrationEngine(config, workflow_directory=named)
    workflow = engine.create_workflow("sums")
    fetch = workflow.add_task("fetch", "data_fetcher", {"url": "x"})
    workflow.add_task("add", "summer", {"rows": fetch.output("rows")})
    result = engine.execute_workflow(workflow.id, engine_type="local", workflow_directory=named)
    assert result.tasks["add"].outputs == {"sum": 6}, result
    with pytest.raises(UsageError, match="did you mean 'summer'"):
        workflow.add_task("more", "sumer")


def test_of_one_name_the_directorys_agent_wins(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "a.yaml").write_text(
        READER.replace("name: reader", "name: data-fetcher")
        .replace("cp data.txt text", "echo own > text")
        .replace(", mounts: [{input: data, path: data.txt}]", "")
    )
    engine = OrchestrationEngine(config)
    workflow = engine.create_workflow("w")
    workflow.add_task("fetch", "data_fetcher")
    result = engine.execute_workflow(workflow.id, engine_type="local")
    assert result.tasks["fetch"].outputs == {"text": "own"}


def test_an_agent_mounts_an_input_of_the_workflow_directory(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "reader.yaml").write_text(READER)
    (tmp_path / "place" / "words.txt").write_text("from the folder")
    engine = OrchestrationEngine(config, workflow_directory="place")
    workflow = engine.create_workflow("w")
    workflow.add_input("data", "words.txt")
    workflow.add_task("read", "reader")
    result = engine.execute_workflow(workflow.id, engine_type="local")
    assert result.tasks["read"].outputs == {"text": "from the folder"}, result


RESIZE = """\
apiVersion: rondel/v1alpha1
kind: Workflow
metadata: {name: resize}
spec:
  params: [{name: width, type: integer}]
  steps:
    - name: compute
      env: {WIDTH: "${{ params.width }}"}
      script: echo $((WIDTH / 2)) > height
      outputs: {height: {path: height, type: integer}}
  outputs: {height: "${{ steps.compute.outputs.height }}"}
"""


@pytest.fixture
def calling(config, tmp_path, monkeypatch):
    monkeypatch.delenv("RONDEL_STATE_DIR", raising=False)
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "resize.yaml").write_text(RESIZE)
    return OrchestrationEngine(config, workflow_directory=tmp_path / "flows")


def test_a_task_uses_a_workflow_of_the_directory_and_its_outputs_go_on(calling):
    workflow = calling.create_workflow(name="gallery")
    resize = workflow.add_task(name="resize_it", uses="resize", inputs={"width": 640})
    workflow.add_task(
        name="tell", agent="data_processor", inputs={"height": resize.output("height")}
    )
    result = calling.execute_workflow(workflow.id, engine_type="local")
    assert result.succeeded, result
    assert result.tasks["resize_it"].outputs == {"height": 320}
    assert result.tasks["tell"].outputs == {"got": {"height": 320}}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"uses": "resise"}, "there is no workflow 'resise'"),
        ({"uses": "resize"}, "width"),
        ({"uses": "resize", "inputs": {"width": "wide"}}, "'wide' is not an integer"),
        ({"uses": "resize", "inputs": {"width": 1, "depth": 2}}, "there is no param 'depth'"),
        ({"uses": "resize", "agent": "data_fetcher"}, "has an agent, or uses a workflow"),
        ({}, "has an agent, or uses a workflow"),
    ],
)
def test_a_call_that_does_not_fit_is_told_by_add_task(calling, words, told):
    workflow = calling.create_workflow(name="gallery")
    with pytest.raises(UsageError, match=told):
        workflow.add_task(name="resize", **words)
    assert workflow.tasks == ()


def test_without_a_folder_of_manifests_no_workflow_can_be_used(engine):
    workflow = engine.create_workflow(name="gallery")
    with pytest.raises(UsageError, match="no folder of manifests for 'resize'"):
        workflow.add_task(name="resize", uses="resize")


def test_an_agent_whose_manifest_is_at_fault_is_told_with_its_place(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "a.yaml").write_text(SUMMER.replace("  outputs:", "  outptus:"))
    with pytest.raises(UsageError, match=r"workflows/a.yaml:\d+:\d+.*outptus"):
        OrchestrationEngine(config).create_workflow("w").add_task("t", "summer")


def test_a_folder_that_is_not_there_is_an_error(config, engine):
    with pytest.raises(UsageError, match="no such folder"):
        OrchestrationEngine(config, workflow_directory="nowhere")
    workflow = engine.create_workflow("w")
    workflow.add_task("t", "data_processor")
    with pytest.raises(UsageError, match="no such folder"):
        engine.execute_workflow(workflow.id, engine_type="local", workflow_directory="nowhere")
    with pytest.raises(UsageError, match="no engine 'kubernetes'"):
        engine.execute_workflow(workflow.id, engine_type="kubernetes")
    with pytest.raises(UsageError, match="no workflow 'other'"):
        engine.execute_workflow("other", engine_type="local")


async def test_inside_a_loop_execute_is_named_and_works(engine):
    workflow = engine.create_workflow("w")
    workflow.add_task("t", "data_processor", {"n": 1})
    with pytest.raises(RuntimeError, match=r"await engine\.execute"):
        engine.execute_workflow(workflow.id, engine_type="local")
    result = await engine.execute(workflow.id, engine_type="local")
    assert result.tasks["t"].outputs == {"got": {"n": 1}}


def test_two_workflows_of_one_name_are_two(engine):
    one, other = engine.create_workflow("same"), engine.create_workflow("same")
    assert one.id != other.id
    assert one.name == other.name == "same"


def test_its_runs_are_listed_by_the_commands(engine, tmp_path, rondel):
    workflow = engine.create_workflow("listed_one")
    workflow.add_task("t", "data_processor")
    result = engine.execute_workflow(workflow.id, engine_type="local")
    done = rondel("get", "run", result.id, "-o", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [step["name"] for step in told["steps"]] == ["t"]


@pytest.fixture
async def double():
    engine = Engine()
    yield engine, await engine.start()
    await engine.stop()


async def test_the_engine_dagger_runs_the_same_tasks(config, tmp_path, double, monkeypatch):
    (tmp_path / "memory").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "memory"))
    double_engine, port = double
    config["dagger"]["cli"] = str(Cli(tmp_path, port).path)
    engine = OrchestrationEngine(config)
    workflow = engine.create_workflow("on_dagger")
    fetch = workflow.add_task("fetch", "data_fetcher", {"url": "x"})
    workflow.add_task("process", "data_processor", {"rows": fetch.output("rows")})
    result = await engine.execute(
        workflow.id, engine_type="dagger", container_registry="registry.test"
    )
    assert result.succeeded, result
    assert result.tasks["process"].outputs == {"got": {"rows": [1, 2, 3]}}
    assert any("registry.test" in request for request in double_engine.requests)


def test_schema_prints_every_kind_and_exported_class(rondel):
    for kind in schema.SHIPPED:
        done = rondel("schema", kind)
        assert (done.returncode, done.stdout) == (0, schema.text(kind)), done.stderr
