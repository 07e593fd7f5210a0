"""What `rondel plan` says of kept results, held to the runs that then happen."""

import json
import subprocess

import pytest

from tests.e2e.controller_process import ControllerProcess

CHANGED = "  triggers: [{onChange: [spec, inputs]}]\n"
KEPT = "  defaults: {cache: {mode: Auto}}\n"


def workflow(name, steps, spec=CHANGED + KEPT):
    head = f"apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {{name: {name}}}\nspec:\n"
    lines = "".join(f"    - {json.dumps(step)}\n" for step in steps)
    return f"{head}{spec}  steps:\n{lines}"


READS = "  inputs: [{name: data, path: data}]\n"


def reading(name, more):
    """Return a workflow of two steps: one reads the input, the other what the first has made."""
    first = {
        "name": "first",
        "script": "mkdir -p out; cat data/n > out/n",
        "mounts": [{"input": "data", "path": "data"}],
        "outputs": {"n": {"path": "out/n"}},
    }
    second = {
        "name": "second",
        "script": "echo $N",
        "env": {"N": "${{ steps.first.outputs.n }}", **more},
    }
    return workflow(name, [first, second], CHANGED + KEPT + READS)


def matrix(*values):
    one = {"name": "each", "matrix": {"v": list(values)}, "script": "echo $V"}
    return workflow("matrix", [{**one, "env": {"V": "${{ matrix.v }}"}}])


def conditional(text):
    first = {"name": "asks", "script": "echo yes > w", "outputs": {"w": {"path": "w"}}}
    second = {
        "name": "maybe",
        "script": "true",
        "when": f"${{{{ steps.asks.outputs.w == '{text}' }}}}",
    }
    return workflow("conditional", [first, second])


@pytest.fixture
def ops(tmp_path):
    folder = tmp_path / "ops"
    (folder / "data").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    return folder


def commit(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        (path if "/" in name.replace("__", "/") else path.with_suffix(".yaml")).write_text(text)
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.com")
    for words in (("add", "-A"), ("commit", "-qm", "x")):
        subprocess.run(["git", "-C", folder, *identity, *words], check=True)


def planned(rondel, controller, folder):
    """Return what plan says of what is about to be loaded: action by workflow, fate by step."""
    done = rondel("plan", "--source", folder, "--state-dir", controller.state, "-o", "json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)["workflows"]
    actions = {one["name"]: one["action"] for one in shown}
    fates = {
        (one["name"], step["name"], json.dumps(step["matrix"])): step["fate"]
        for one in shown
        for step in one["steps"]
    }
    return actions, fates


def happened(controller, names, since):
    """Return what became of each step of the runs that are new, once they have ended."""

    def new():
        found = [one for one in controller.runs() if one.id not in since]
        ended = {one.workflow for one in found if one.phase.terminal}
        return found if ended >= names else []

    runs = controller.until(new, f"runs of {sorted(names)}")
    assert {one.workflow for one in runs} == names
    assert {str(one.phase) for one in runs} == {"Succeeded"}
    return {
        (run.workflow, row.name, json.dumps(row.matrix)): fate(row)
        for run in runs
        for row in controller.look(lambda reader, run=run: reader.steps(run.id))
    }


def fate(row):
    if str(row.phase) == "Skipped":
        return "Skipped"
    return "Cached" if row.cached else "Run"


def test_what_plan_says_of_kept_results_is_what_the_runs_find(ops, rondel, tmp_path):
    first = {
        "data__n": "1",
        "back": reading("back", {}),
        "later": reading("later", {"REGION": "eu"}),
        "matrix": matrix("a", "b"),
        "conditional": conditional("yes"),
        "plain": workflow("plain", [{"name": "a", "script": "true"}], CHANGED),
        "dated": workflow(
            "dated", [{"name": "a", "script": "true", "env": {"ID": "${{ run.id }}"}}]
        ),
    }
    commit(ops, **first)
    controller = ControllerProcess(tmp_path, "--source", ops.as_uri()).start()
    try:
        everything = {"back", "later", "matrix", "conditional", "plain", "dated"}
        happened(controller, everything, set())
        seen = {one.id for one in controller.runs()}
        commit(ops, data__n="2")
        happened(controller, {"back", "later"}, seen)  # other results are kept, too
        controller.stop()

        seen = {one.id for one in controller.runs()}
        commit(
            ops,
            data__n="1",
            later=reading("later", {"REGION": "us"}),
            matrix=matrix("a", "b", "c"),
            conditional=conditional("no"),
            plain=workflow("plain", [{"name": "a", "script": "exit 0"}], CHANGED),
            dated=workflow(
                "dated", [{"name": "a", "script": "exit 0", "env": {"ID": "${{ run.id }}"}}]
            ),
        )
        actions, said = planned(rondel, controller, ops)
        assert actions == {
            "back": "Cached",
            "later": "Run",
            "matrix": "Run",
            "conditional": "Cached",
            "plain": "Run",
            "dated": "Unknown",
        }
        controller.start()
        found = happened(controller, everything, seen)
    finally:
        controller.stop()
    assert said.pop(("dated", "a", "null")) == "Unknown"
    assert said == {place: found[place] for place in said}
    assert {one for place, one in said.items() if place[0] == "later"} == {"Cached", "Run"}
    unsaid = {place for place in found if place not in said}
    assert unsaid == {("dated", "a", "null"), ("plain", "a", "null")}
