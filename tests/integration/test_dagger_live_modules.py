"""Functions of Dagger modules on a live engine: skipped where there is none, or no port for Git."""

import subprocess

import pytest

from controller.clock import SystemClock
from controller.execute.dagger import DaggerExecutor
from controller.model.run import Phase
from controller.model.settings import DaggerSettings
from controller.model.workflow import Artifact, ModuleCall, Mount, Output, OutputType, Step
from controller.secrets import ConfiguredSecrets
from tests import engine_lab
from tests.engine_lab import workflow
from tests.git_over_http import served
from tests.integration import test_dagger_live

IMAGE = test_dagger_live.IMAGE
pytestmark = test_dagger_live.pytestmark
REF = "http://127.0.0.1/acme/report.git"
CONFIG = '{"name": "report-module", "engineVersion": "v0.21.7", "sdk": "dang"}'
MAIN = f"""
enum Color {{
  RED
  BLUE
}}

type ReportModule {{
  pub checkAll(strict: Boolean! = false, name: String! = "x", n: Int! = 1, l: [String!]! = []): String! {{
    "checked " + name + " " + JSON.encode(strict) + JSON.encode(n) + JSON.encode(l)
  }}
  pub colour(c: Color!): String! {{ JSON.encode(c) }}
  pub count: Int! {{ 5 }}
  pub names: [String!]! {{ ["a", "b"] }}
  pub nothing: Void {{ null }}
  pub spy: [String!]! {{ currentWorkspace.directory("/").entries }}
  pub peek(ws: Workspace!): [String!]! {{ ws.directory("/").entries }}
  pub take(dir: Directory!): [String!]! {{ dir.entries }}
  pub files: Directory! {{ directory.withNewFile("a/b.txt", "hello").withNewFile("c", "there") }}
  pub one: File! {{ directory.withNewFile("c", "there").file("c") }}
  pub ctr: Container! {{ container }}
  pub fail: String! {{
    container.from("{IMAGE}").withExec(["sh", "-c", "echo inside; echo err >&2; exit 5"]).stdout
  }}
}}
"""


def git(folder, *words):
    words = ("git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c", *words)
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Two commits of one module, served."""
    root = tmp_path_factory.mktemp("git")
    repository = root / "acme" / "report.git"
    repository.mkdir(parents=True)
    git(repository, "init", "-q")
    (repository / "dagger.json").write_text(CONFIG)
    found = []
    for text in (MAIN, MAIN.replace('"checked "', '"second "')):
        (repository / "main.dang").write_text(text)
        git(repository, "add", "-A")
        git(repository, "commit", "-qm", "a commit")
        found.append(git(repository, "rev-parse", "HEAD"))
    try:
        with served(root):
            yield found
    except OSError as error:
        pytest.skip(f"no port for a Git server: {error}")


@pytest.fixture
async def rig(tmp_path):
    executor = DaggerExecutor(
        DaggerSettings(),
        secrets=ConfiguredSecrets({}),
        state_dir=tmp_path / "state",
        clock=SystemClock(),
    )
    async with engine_lab.lab(tmp_path, executor=executor) as found:
        yield found


def step(name, version, call, args=None, ref=REF, **words):
    module = ModuleCall(ref=ref, version=version, call=call, args=args or {})
    return Step(name=name, module=module, **words)


async def test_a_function_is_called_with_plain_values_and_its_value_is_the_result(rig, versions):
    args = {"strict": True, "name": 'it "is" ü\n', "n": 4, "l": ["p", "q"]}
    result = (Output(name="r", path="result"),)
    number = (Output(name="n", path="result", type=OutputType.INTEGER),)
    names = (Output(name="l", path="result", type=OutputType.JSON),)
    version = versions[0]
    story = await rig.execute(
        workflow(
            step("a", version, "check-all", args, outputs=result),
            step("b", version, "colour", {"c": "BLUE"}, outputs=result),
            step("c", version, "count", outputs=number),
            step("d", version, "names", outputs=names),
            step("e", version, "nothing"),
        )
    )
    assert story.phase is Phase.SUCCEEDED, story.told()
    assert story.steps["a"].outputs == {"r": 'checked it "is" ü\n true4["p","q"]'}
    assert story.steps["b"].outputs == {"r": '"BLUE"'}
    assert (story.steps["c"].outputs, story.steps["d"].outputs) == ({"n": 5}, {"l": ["a", "b"]})
    assert "checked it" in await story.text("a")


async def test_a_folder_or_a_file_is_collected_as_if_it_had_been_written(rig, versions):
    made = step(
        "a",
        versions[0],
        "files",
        artifacts=(Artifact(name="all", path="."), Artifact(name="deep", path="a")),
        outputs=(Output(name="b", path="a/b.txt"), Output(name="no", path="no", default="none")),
    )
    one = step("b", versions[0], "one", outputs=(Output(name="f", path="result"),))
    use = engine_lab.step(
        "c",
        "find x y -type f | sort",
        image=IMAGE,
        needs=("a",),
        mounts=(Mount(path="x", artifact="a.all"), Mount(path="y", artifact="a.deep")),
    )
    story = await rig.execute(workflow(made, one, use))
    assert story.phase is Phase.SUCCEEDED, (story.told(), story.steps["a"].error)
    assert story.steps["a"].outputs == {"b": "hello", "no": "none"}
    assert story.steps["b"].outputs == {"f": "there"}
    assert (await story.text("c")).split() == ["x/a/b.txt", "x/c", "y/b.txt"]


async def test_a_function_that_fails_is_a_failed_step_with_its_code_and_lines(rig, versions):
    story = await rig.execute(workflow(step("a", versions[0], "fail")))
    assert (story.told(), story.steps["a"].exit_code) == ({"a": "Failed/ExitCode"}, 5)
    lines = [(one["stream"], one["line"]) for one in await story.log("a")]
    assert lines.count(("stdout", "inside")) == lines.count(("stderr", "err")) == 1


async def test_a_function_sees_nothing_of_the_controllers_host(rig, versions):
    outputs = (Output(name="seen", path="result", type=OutputType.JSON),)
    story = await rig.execute(
        workflow(*(step(call, versions[0], call, outputs=outputs) for call in ("spy", "peek")))
    )
    assert [one.outputs for one in story.steps.values()] == [{"seen": []}, {"seen": []}]


@pytest.mark.parametrize(
    ("call", "args", "said"),
    [
        ("no-such", {}, "ModuleFunction: there is no function 'no-such'; there are: checkAll"),
        ("check-all", {"n": "4"}, "ModuleArgument: argument 'n': \"4\" is no Int"),
        ("check-all", {"n": True}, "ModuleArgument: true is no Int"),
        ("check-all", {"other": 1}, "ModuleArgument: has no such argument; it has: strict"),
        ("colour", {}, "ModuleArgument: colour needs it"),
        ("colour", {"c": "RED}"}, "ModuleArgument: is no ReportModuleColor"),
        ("take", {"dir": "/etc"}, "ModuleArgument: can't be given, only plain ones"),
        ("peek", {"ws": "/"}, "ModuleArgument: can't be given, only plain ones"),
        ("ctr", {}, "ModuleResult: gives a Container"),
        ("id", {}, "ModuleResult: gives a "),
    ],
)
async def test_what_a_function_does_not_take_is_an_error(rig, versions, call, args, said):
    reason, problem = said.split(": ", 1)
    story = await rig.execute(workflow(step("a", versions[0], call, args)))
    assert story.told() == {"a": f"Error/{reason}"}
    assert problem in story.steps["a"].error


async def test_two_commits_of_one_module_in_a_run_are_an_error(rig, versions):
    steps = [step(f"s{n}", version, "count") for n, version in enumerate(versions)]
    steps[1] = step("s1", versions[1], "count", needs=("s0",))
    story = await rig.execute(workflow(*steps))
    assert story.told() == {"s0": "Succeeded", "s1": "Error/ModuleConflict"}
    outputs = (Output(name="r", path="result"),)
    other = await rig.execute(workflow(step("a", versions[1], "check-all", outputs=outputs)))
    assert other.steps["a"].outputs["r"].startswith("second")


@pytest.mark.parametrize(
    ("ref", "version"),
    [(REF.replace("report", "nosuch"), "1" * 40), (REF, "1" * 40), ("/etc", "1" * 40), (".", "1")],
)
async def test_a_module_that_cannot_be_had_is_an_error_for_a_person(rig, versions, ref, version):
    story = await rig.execute(workflow(step("a", version, "count", ref=ref)))
    assert story.told() == {"a": "Error/ModuleInvalid"}
