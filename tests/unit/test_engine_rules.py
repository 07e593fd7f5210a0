"""Which step runs and what a run comes to: MANIFEST's rules, as a table."""

from dataclasses import replace

import pytest

from controller.execute import rules
from controller.execute.rules import Verdict
from controller.model.run import Phase, StepRun
from controller.model.workflow import Matrix, Mount, Step


def row(phase: Phase, reason: str = "", **words) -> StepRun:
    return StepRun(run="r", name="need", phase=phase, reason=reason, **words)


PLAIN = Step(name="after", script="true", needs=("need",))
WATCHES = replace(PLAIN, when="${{ steps.need.phase == 'Failed' }}")
READS = replace(PLAIN, env={"A": "${{ steps.need.outputs.x }}"})
MOUNTS = replace(PLAIN, mounts=(Mount(path="x", artifact="need.x"),))
NEED = Step(name="need", script="true")
FORGIVEN = replace(NEED, continue_on_error=True)
CODES = replace(NEED, continue_on_error=(3,))


@pytest.mark.parametrize(
    ("step", "need", "done", "held"),
    [
        pytest.param(PLAIN, NEED, row(Phase.SUCCEEDED), None, id="a-good-need-lets-run"),
        pytest.param(PLAIN, NEED, row(Phase.FAILED), "DependencyFailed", id="a-failed-need-skips"),
        pytest.param(PLAIN, NEED, row(Phase.ERROR), "DependencyFailed", id="an-errored-need-skips"),
        pytest.param(PLAIN, FORGIVEN, row(Phase.FAILED), None, id="unless-forgiven"),
        pytest.param(PLAIN, FORGIVEN, row(Phase.ERROR), None, id="also-an-error"),
        pytest.param(PLAIN, CODES, row(Phase.FAILED, exit_code=3), None, id="by-its-exit-code"),
        pytest.param(
            PLAIN, CODES, row(Phase.FAILED, exit_code=4), "DependencyFailed", id="another-code"
        ),
        pytest.param(WATCHES, NEED, row(Phase.FAILED), None, id="its-when-uses-the-phase"),
        pytest.param(
            WATCHES, NEED, row(Phase.SKIPPED, "DependencyFailed"), None, id="also-of-a-skipped-one"
        ),
        pytest.param(
            PLAIN, NEED, row(Phase.SKIPPED, "DependencyFailed"), "DependencyFailed", id="passes-on"
        ),
        pytest.param(
            PLAIN,
            FORGIVEN,
            row(Phase.SKIPPED, "DependencyFailed"),
            "DependencyFailed",
            id="forgiving-does-not-stop-it",
        ),
        pytest.param(
            PLAIN, NEED, row(Phase.SKIPPED, "ConditionFalse"), None, id="ordering-only-still-runs"
        ),
        pytest.param(
            READS,
            NEED,
            row(Phase.SKIPPED, "ConditionFalse"),
            "DependencySkipped",
            id="a-reader-of-outputs-is-skipped",
        ),
        pytest.param(
            MOUNTS,
            NEED,
            row(Phase.SKIPPED, "ConditionFalse"),
            "DependencySkipped",
            id="a-reader-of-artifacts-is-skipped",
        ),
        pytest.param(
            PLAIN,
            NEED,
            row(Phase.SKIPPED, "DependencySkipped"),
            None,
            id="that-is-passed-on-like-a-false-condition",
        ),
    ],
)
def test_a_need_holds_a_step_back_by_the_rules(step, need, done, held):
    found = rules.held_back(rules.uses(step), [(need, done)], has_when=step.when is not None)
    assert (found and found[0]) == held


CANCELLED = Verdict(Phase.CANCELLED, "Cancelled")
TIMEOUT = Verdict(Phase.FAILED, "Timeout")


@pytest.mark.parametrize(
    ("ended", "finished", "phase"),
    [
        pytest.param(None, [], Phase.SUCCEEDED, id="nothing-is-success"),
        pytest.param(
            None,
            [(NEED, row(Phase.SKIPPED, "ConditionFalse"))],
            Phase.SUCCEEDED,
            id="all-skipped-is-success",
        ),
        pytest.param(None, [(NEED, row(Phase.FAILED))], Phase.FAILED, id="a-failed-step"),
        pytest.param(
            None,
            [(NEED, row(Phase.FAILED)), (NEED, row(Phase.ERROR))],
            Phase.ERROR,
            id="error-before-failed",
        ),
        pytest.param(
            None, [(FORGIVEN, row(Phase.ERROR))], Phase.SUCCEEDED, id="forgiven-counts-for-nothing"
        ),
        pytest.param(
            CANCELLED, [(NEED, row(Phase.ERROR))], Phase.CANCELLED, id="cancelled-before-error"
        ),
        pytest.param(TIMEOUT, [], Phase.FAILED, id="the-runs-timeout-is-failed"),
        pytest.param(TIMEOUT, [(NEED, row(Phase.ERROR))], Phase.ERROR, id="error-before-timeout"),
        pytest.param(
            Verdict(Phase.INTERRUPTED, "ControllerLost"),
            [(NEED, row(Phase.ERROR))],
            Phase.INTERRUPTED,
            id="interrupted-first",
        ),
    ],
)
def test_the_runs_phase_is_the_first_that_applies(ended, finished, phase):
    assert rules.verdict(ended, finished).phase is phase


def test_a_steps_timeout_is_the_runs_reason():
    found = rules.verdict(None, [(NEED, row(Phase.FAILED, "Timeout"))])
    assert (found.phase, found.reason) == (Phase.FAILED, "Timeout")


@pytest.mark.parametrize(
    "matrix",
    [
        pytest.param(Matrix(each="${{ steps.need.outputs.x }}"), id="from"),
        pytest.param(Matrix(axes={"a": "${{ steps.need.outputs.x }}"}), id="an-axis"),
        pytest.param(Matrix(axes={"a": ["${{ steps.need.outputs.x }}"]}), id="a-value-of-an-axis"),
        pytest.param(Matrix(include=({"a": "${{ steps.need.outputs.x }}"},)), id="include"),
    ],
)
def test_a_matrix_reads_outputs_too(matrix):
    reads = rules.uses(replace(PLAIN, matrix=matrix))
    assert reads.values == {"need"}
    skipped = [(NEED, row(Phase.SKIPPED, "ConditionFalse"))]
    assert rules.held_back(reads, skipped, has_when=False) is not None


@pytest.mark.parametrize(
    ("rows", "held"),
    [
        pytest.param([row(Phase.SKIPPED, "ConditionFalse")] * 2, "DependencySkipped", id="all"),
        pytest.param(
            [row(Phase.SKIPPED, "ConditionFalse"), row(Phase.SUCCEEDED)], None, id="not-all"
        ),
        pytest.param(
            [row(Phase.SKIPPED, "ConditionFalse"), row(Phase.FAILED)], "DependencyFailed", id="bad"
        ),
        pytest.param([row(Phase.SUCCEEDED)], None, id="no-combinations"),
    ],
)
def test_a_reader_is_skipped_only_with_every_combination(rows, held):
    found = rules.held_back(rules.uses(READS), rules.judged(NEED, rows), has_when=False)
    assert (found and found[0]) == held
