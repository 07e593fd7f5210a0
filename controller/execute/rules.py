"""The rules of phases: which step runs, and what a run has come to. Decides, does nothing."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass

from controller.manifest.graph import EXPRESSIVE
from controller.manifest.template import OPENING, expressive, references, written
from controller.model.run import Phase, StepRun
from controller.model.workflow import Step

DEPENDENCY_FAILED = "DependencyFailed"
DEPENDENCY_SKIPPED = "DependencySkipped"
CONDITION_FALSE = "ConditionFalse"
RUN_ENDED = "RunEnded"
FAIL_FAST = "FailFast"
EXIT_CODE = "ExitCode"


@dataclass(frozen=True, slots=True)
class Uses:
    """What a step reads of others, by the names expressions write."""

    phases: frozenset[str] = frozenset()  # in its `when`
    values: frozenset[str] = frozenset()  # outputs or artifacts, anywhere


NOTHING = Uses()


def uses(step: Step) -> Uses:
    """Return what the step's expressions and mounts read of other steps."""
    found = texts(step)
    mounted = {written(m.artifact.partition(".")[0]) for m in step.mounts if m.artifact}
    if not found and not mounted:
        return NOTHING
    named = {name for text in found for name in references(text) if name[0] == "steps"}
    values = {name[1] for name in named if name[2:3] in {("outputs",), ("artifacts",)}}
    phases = {name[1] for name in _in_when(step.when) if name[2:3] == ("phase",)}
    return Uses(frozenset(phases), frozenset(values | mounted))


def texts(step: Step) -> list[str]:
    """Return every text of a step that holds an expression."""
    fields = dict.fromkeys((*EXPRESSIVE, "matrix")) if step.expressive else ()
    return [text for field in fields for _, text in expressive(plain(getattr(step, field)))]


def _in_when(text: str | None) -> set[tuple[str, ...]]:
    if text is None or OPENING not in text:
        return set()
    return {name for name in references(text) if name[0] == "steps"}


def plain(value: object) -> object:
    """Return a field's value as lists and maps, so that its strings can be walked."""
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    return dict(value) if isinstance(value, Mapping) else value


def of_combination(when: str | None) -> bool:
    """Tell whether a `when` is decided for each combination of a matrix by itself."""
    return when is not None and any(name[0] == "matrix" for name in references(when))


def forgiven(step: Step, done: StepRun) -> bool:
    """Tell whether a bad ending of this step counts for nothing (continueOnError)."""
    if isinstance(step.continue_on_error, bool):
        return step.continue_on_error
    return done.exit_code in step.continue_on_error


def held_back(
    reads: Uses, needs: Iterable[tuple[Step, StepRun]], *, has_when: bool
) -> tuple[str, str] | None:
    """Return (reason, message) when its needs keep a step from running; None when they don't."""
    for need, done in needs:
        name = written(need.name)
        if has_when and name in reads.phases:
            continue  # its `when` decides for itself
        if done.phase is Phase.SKIPPED and done.reason in {CONDITION_FALSE, DEPENDENCY_SKIPPED}:
            if name in reads.values:
                return DEPENDENCY_SKIPPED, f"{need.name} was skipped and has no outputs"
        elif stands_in_the_way(need, done):
            return DEPENDENCY_FAILED, f"{done.label} ended as {done.phase}"
    return None


def held(
    step: Step, reads: Uses, steps: Mapping[str, Step], rows: Callable[[str], Sequence[StepRun]]
) -> tuple[str, str] | None:
    """Return (reason, message) when a step's needs keep it from running, as `held_back` does.

    Args:
        step: whose needs among `steps` have ended.
        reads: what it reads of others.
        steps: of its section, by name.
        rows: gives the rows of one.
    """
    needs = (one for name in step.needs if name in steps for one in judged(steps[name], rows(name)))
    return held_back(reads, needs, has_when=step.when is not None)


def judged(need: Step, rows: Sequence[StepRun]) -> Iterator[tuple[Step, StepRun]]:
    """Yield the rows of a need that decide over others.

    Combinations that a `when` has skipped are nulls in the lists of the others; they count only
    when there is nothing else.
    """
    ran = [row for row in rows if row.reason != CONDITION_FALSE] if len(rows) > 1 else rows
    for row in ran or rows:
        yield need, row


def stands_in_the_way(need: Step, done: StepRun) -> bool:
    if done.phase is Phase.SKIPPED:
        return True  # by DependencyFailed or RunEnded: it passes that on
    return done.phase.bad and not forgiven(need, done)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run has come to so far."""

    phase: Phase
    reason: str = ""
    message: str = ""


def verdict(
    ended: Verdict | None, finished: Iterable[tuple[Step, StepRun]], before: Verdict | None = None
) -> Verdict:
    """Return the run's phase: the first that applies of Interrupted, Cancelled, Error, Failed.

    Args:
        ended: what ended the run from outside: Interrupted, Cancelled, or Failed by its timeout.
        finished: every step, hook and finally step that has ended.
        before: the verdict before hooks; its words stay when the phase does.
    """
    if ended is not None and ended.phase in {Phase.INTERRUPTED, Phase.CANCELLED}:
        return ended
    bad = [done for step, done in finished if done.phase.bad and not forgiven(step, done)]
    found = worst(bad, Phase.ERROR) or ended or worst(bad, Phase.FAILED)
    if found is None:
        return Verdict(Phase.SUCCEEDED)
    return before if before is not None and before.phase is found.phase else found


def worst(bad: list[StepRun], phase: Phase) -> Verdict | None:
    done = next((one for one in bad if one.phase is phase), None)
    if done is None:
        return None
    reason = done.reason if done.reason not in {"", EXIT_CODE} else f"Step{phase}"
    message = f"step {done.label}: {done.reason}" + (f": {done.error}" if done.error else "")
    return Verdict(phase, reason, message)
