"""Matrix steps on the local executor: combinations, their lists, failFast, recovery, cancel."""

import json
from datetime import timedelta

import pytest

from controller.model.changes import PutStep, StartRun
from controller.model.run import Attempt, Phase
from controller.model.workflow import Artifact, Matrix, Mount, Output, OutputType, Step
from tests.engine_lab import lab, retry, step, workflow

TWO = Matrix(axes={"format": ["html", "pdf"]})
SAYS = {"F": "${{ matrix.format }}"}


def output(name: str, type_: OutputType = OutputType.STRING) -> Output:
    return Output(name=name, path=name, type=type_)


def echo(name: str, value: str, **words) -> Step:
    """A step whose log is the value of an expression."""
    return step(name, 'echo "$VALUE"', env={"VALUE": value}, **words)


def render(script: str, matrix: Matrix = TWO, **words) -> Step:
    return step("render", script, matrix=matrix, env=SAYS, **words)


async def test_a_product_runs_once_for_each_combination_and_later_steps_see_lists(tmp_path):
    matrix = Matrix(axes={"format": ["html", "pdf"], "size": [1, 2]})
    each = step(
        "each",
        'echo "$F$S" > name; echo "$RONDEL_STEP"',
        matrix=matrix,
        env={**SAYS, "S": "${{ matrix.size }}"},
        outputs=(output("name"),),
    )
    after = echo("after", "${{ steps.each }}", needs=("each",))
    async with lab(tmp_path) as rig:
        story = await rig.execute(workflow(each, after))
        assert story.phase is Phase.SUCCEEDED
        assert [row.matrix for row in story.rows if row.name == "each"] == [
            {"format": "html", "size": 1},
            {"format": "html", "size": 2},
            {"format": "pdf", "size": 1},
            {"format": "pdf", "size": 2},
        ]
        assert json.loads(await story.text("after")) == {
            "phase": "Succeeded",
            "exitCode": [0, 0, 0, 0],
            "outputs": {"name": ["html1", "html2", "pdf1", "pdf2"]},
            "artifacts": {},
        }
        assert await story.text("each") == "each"


async def test_the_rows_of_a_matrix_without_expressions_are_there_from_the_start(tmp_path):
    async with lab(tmp_path) as rig:
        await rig.execute(workflow(step("first"), render("true", needs=("first",))))
        [start] = [one for call in rig.ledger.calls for one in call if isinstance(one, StartRun)]
    assert [(row.name, row.index, row.matrix) for row in start.steps] == [
        ("first", 0, None),
        ("render", 0, {"format": "html"}),
        ("render", 1, {"format": "pdf"}),
    ]


async def test_a_list_known_only_at_run_time_fans_out(tmp_path):
    extract = step(
        "extract", 'echo \'["eu", "us"]\' > rows', outputs=(output("rows", OutputType.JSON),)
    )
    each = echo(
        "each",
        "${{ matrix.region }}",
        matrix=Matrix(each="${{ steps.extract.outputs.rows }}", item="region"),
        needs=("extract",),
    )
    async with lab(tmp_path) as rig:
        story = await rig.execute(workflow(extract, each))
        assert story.each("each") == ["Succeeded", "Succeeded"]
        assert [row.label for row in story.rows] == [
            "extract",
            "each[region=eu]",
            "each[region=us]",
        ]
        said = {a.index: await said_by(rig, a) for a in story.attempts if a.step == "each"}
    assert said == {0: "eu", 1: "us"}


async def said_by(rig, attempt: Attempt) -> str:
    assert attempt.log is not None
    lines = (await rig.store.blobs.get(attempt.log)).splitlines()
    return "\n".join(json.loads(line)["line"] for line in lines)


async def test_no_combinations_succeed_with_empty_lists(tmp_path):
    extract = step("extract", "echo [] > rows", outputs=(output("rows", OutputType.JSON),))
    each = step(
        "each",
        "exit 1",
        matrix=Matrix(each="${{ steps.extract.outputs.rows }}"),
        needs=("extract",),
        outputs=(output("n"),),
        artifacts=(Artifact(name="f", path="f"),),
    )
    after = echo("after", "${{ steps.each }}", needs=("each",))
    mounts = step(
        "mounts", "ls got | wc -l", mounts=(Mount(path="got", artifact="each.f"),), needs=("each",)
    )
    async with lab(tmp_path) as rig:
        story = await rig.execute(workflow(extract, each, after, mounts))
        assert story.phase is Phase.SUCCEEDED
        [row] = [row for row in story.rows if row.name == "each"]
        assert (row.phase, row.matrix, row.attempts) == (Phase.SUCCEEDED, None, 0)
        assert json.loads(await story.text("after")) == {
            "phase": "Succeeded",
            "exitCode": [],
            "outputs": {"n": []},
            "artifacts": {"f": []},
        }
        assert (await story.text("mounts")).strip() == "0"


async def test_a_from_that_is_no_list_is_the_steps_error(tmp_path):
    extract = step("extract", "echo 5 > rows", outputs=(output("rows", OutputType.JSON),))
    each = step("each", matrix=Matrix(each="${{ steps.extract.outputs.rows }}"), needs=("extract",))
    async with lab(tmp_path) as rig:
        story = await rig.execute(workflow(extract, each))
    assert story.phase is Phase.ERROR
    assert story.each("each") == ["Error/ExpressionFailed"]


@pytest.mark.parametrize(("limit", "steps"), [(1, 20), (2, 20), (4, 2), (None, 20)])
async def test_no_more_run_at_once_than_max_parallel_and_the_house_allow(tmp_path, limit, steps):
    matrix = Matrix(axes={"n": [1, 2, 3, 4]}, max_parallel=limit)
    each = step("each", "sleep 0.1", matrix=matrix)
    async with lab(tmp_path, max_steps=steps) as rig:
        story = await rig.execute(workflow(each))
    assert story.each("each") == ["Succeeded"] * 4
    assert most_at_once(story.attempts) <= min(limit or 4, steps)


def most_at_once(attempts: list[Attempt]):
    return max(
        sum(other.started_at <= one.started_at < ended(other) for other in attempts)
        for one in attempts
    )


def ended(attempt: Attempt):
    assert attempt.finished_at is not None
    return attempt.finished_at


async def test_a_matrix_at_its_limit_keeps_no_other_step_waiting(tmp_path):
    each = step("each", "sleep 0.3", matrix=Matrix(axes={"n": [1, 2]}, max_parallel=1))
    async with lab(tmp_path) as rig:
        story = await rig.execute(workflow(each, step("other")))
    second = next(a for a in story.attempts if (a.step, a.index) == ("each", 1))
    assert ended(story.attempt("other")) < second.started_at


async def test_fail_fast_cancels_what_runs_and_what_waits(tmp_path):
    matrix = Matrix(axes={"n": [1, 2, 3]}, max_parallel=2, fail_fast=True)
    each = step(
        "each",
        'if [ "$N" = 2 ]; then exit 3; fi; sleep 30',
        matrix=matrix,
        env={"N": "${{ matrix.n }}"},
    )
    after = step("after", needs=("each",))
    async with lab(tmp_path) as rig:
        story = await rig.execute(workflow(each, after))
    assert story.each("each") == ["Cancelled/FailFast", "Failed/ExitCode", "Cancelled/FailFast"]
    assert [row.attempts for row in story.rows if row.name == "each"] == [1, 1, 0]
    assert story.told()["after"] == "Skipped/DependencyFailed"
    assert story.phase is Phase.FAILED
    assert story.run.message.startswith("step each[n=2]: ExitCode")


async def test_a_forgiven_failure_ends_no_other_combination(tmp_path):
    matrix = Matrix(axes={"n": [1, 2]}, max_parallel=1, fail_fast=True)
    each = step("each", "exit 3", matrix=matrix, continue_on_error=(3,))
    async with lab(tmp_path) as rig:
        story = await rig.execute(workflow(each, step("after", needs=("each",))))
    assert story.each("each") == ["Failed/ExitCode", "Failed/ExitCode"]
    assert story.told()["after"] == "Succeeded"
    assert story.phase is Phase.SUCCEEDED


async def test_without_fail_fast_the_others_go_on_and_the_phase_is_the_worst(tmp_path):
    script = 'if [ "$F" = html ]; then exit 3; fi; echo ok > n'
    each = render(script, outputs=(output("n"),))
    when = "${{ steps.render.phase == 'Failed' && steps.render.exitCode == [3, 0] }}"
    watches = echo("watches", "${{ steps.render.outputs.n }}", needs=("render",), when=when)
    async with lab(tmp_path) as rig:
        story = await rig.execute(workflow(each, watches, step("plain", needs=("render",))))
        assert story.each("render") == ["Failed/ExitCode", "Succeeded"]
        assert json.loads(await story.text("watches")) == [None, "ok"]
    assert story.told()["plain"] == "Skipped/DependencyFailed"


async def test_a_when_is_decided_for_each_combination_if_it_uses_the_matrix(tmp_path):
    each = render('echo "$F" > n', when="${{ matrix.format == 'pdf' }}", outputs=(output("n"),))
    after = echo("after", "${{ steps.render.outputs.n }}", needs=("render",))
    phase = echo("phase", "${{ steps.render.phase }}", needs=("render",))
    async with lab(tmp_path) as rig:
        story = await rig.execute(workflow(each, after, phase))
        assert story.each("render") == ["Skipped/ConditionFalse", "Succeeded"]
        assert json.loads(await story.text("after")) == [None, "pdf"]
        assert await story.text("phase") == "Skipped"
    assert story.phase is Phase.SUCCEEDED


@pytest.mark.parametrize("when", ["${{ false }}", "${{ matrix.format == 'x' }}"])
async def test_a_matrix_that_is_skipped_whole_has_no_outputs_for_others(tmp_path, when):
    each = render("true", when=when, outputs=(output("n"),))
    after = echo("after", "${{ steps.render.outputs.n }}", needs=("render",))
    orders = step("orders", needs=("render",))
    async with lab(tmp_path) as rig:
        story = await rig.execute(workflow(each, after, orders))
    assert story.each("render") == ["Skipped/ConditionFalse"] * 2
    assert story.told()["after"] == "Skipped/DependencySkipped"
    assert story.told()["orders"] == "Succeeded"


async def test_a_mounted_artifact_is_a_folder_with_an_entry_for_each_combination(tmp_path):
    script = 'if [ "$F" = b ]; then exit 0; fi; mkdir d; echo "$F" > d/x; echo "$F" > f'
    each = step(
        "each",
        script,
        matrix=Matrix(axes={"f": ["a", "b", "c"]}),
        env={"F": "${{ matrix.f }}"},
        artifacts=(Artifact(name="d", path="d"), Artifact(name="f", path="f")),
        continue_on_error=True,
    )
    reads = step(
        "reads",
        "ls d f; cat d/0/x d/2/x f/0 f/2",
        matrix=Matrix(axes={"n": list(range(8))}),
        mounts=(Mount(path="d", artifact="each.d"), Mount(path="f", artifact="each.f")),
        needs=("each",),
    )
    async with lab(tmp_path) as rig:
        story = await rig.execute(workflow(each, reads))
        assert story.each("each") == ["Succeeded", "Failed/OutputMissing", "Succeeded"]
        assert story.each("reads") == ["Succeeded"] * 8
        said = [await said_by(rig, a) for a in story.attempts if a.step == "reads"]
    assert set(said) == {"d:\n0\n2\n\nf:\n0\n2\na\nc\na\nc"}


async def test_only_the_combination_that_failed_is_tried_again(tmp_path):
    mark = tmp_path / "mark"
    script = f'[ "$F" = html ] || [ -e {mark} ] || {{ touch {mark}; exit 1; }}'
    async with lab(tmp_path) as rig:
        story = await rig.execute(workflow(render(script, retry=retry(2))))
    assert story.each("render") == ["Succeeded", "Succeeded"]
    assert [row.attempts for row in story.rows] == [1, 2]
    assert [(a.index, a.number, str(a.phase)) for a in story.attempts] == [
        (0, 1, "Succeeded"),
        (1, 1, "Failed"),
        (1, 2, "Succeeded"),
    ]


async def test_a_timeout_is_each_combinations_own(tmp_path):
    script = '[ "$F" = html ] || sleep 30'
    async with lab(tmp_path) as rig:
        story = await rig.execute(workflow(render(script, timeout=timedelta(seconds=0.5))))
    assert story.each("render") == ["Succeeded", "Failed/Timeout"]


async def test_a_matrix_of_finally_sees_the_whole_steps_phase(tmp_path):
    last = echo("last", "${{ matrix.n }} ${{ steps.render.phase }}", matrix=Matrix(axes={"n": [7]}))
    async with lab(tmp_path) as rig:
        story = await rig.execute(workflow(render("exit 1"), finally_=(last,)))
        assert await story.text("last") == "7 Failed"


async def test_every_combination_ends_once_in_the_ledger(tmp_path):
    matrix = Matrix(axes={"n": [1, 2, 3]}, fail_fast=True)
    each = step("each", '[ "$N" = 1 ]', matrix=matrix, env={"N": "${{ matrix.n }}"})
    async with lab(tmp_path, max_steps=1) as rig:
        await rig.execute(workflow(each))
        changes = [one for call in rig.ledger.calls for one in call]
    ends = [c.step.index for c in changes if isinstance(c, PutStep) and c.step.phase.terminal]
    assert sorted(ends) == [0, 1, 2]
