"""The sections of a workflow, in the order of the manifest: steps, hooks, finally."""

from controller.model.run import Phase, Section
from controller.model.workflow import Step, Workflow


def sections(workflow: Workflow) -> list[tuple[Section, Step]]:
    """Return every step with where it stands."""
    return [
        *((Section.STEPS, step) for step in workflow.steps),
        *((section, step) for section, steps in hooks_of(workflow) for step in steps),
        *((Section.FINALLY, step) for step in workflow.finally_),
    ]


def hooks_of(workflow: Workflow) -> list[tuple[Section, tuple[Step, ...]]]:
    return [
        (Section.ON_SUCCESS, workflow.on_success),
        (Section.ON_FAILURE, workflow.on_failure),
        (Section.ON_CANCEL, workflow.on_cancel),
    ]


def hook_for(phase: Phase) -> Section:
    """Return whose turn it is after the steps have come to `phase`."""
    match phase:
        case Phase.SUCCEEDED:
            return Section.ON_SUCCESS
        case Phase.CANCELLED:
            return Section.ON_CANCEL
        case _:
            return Section.ON_FAILURE
