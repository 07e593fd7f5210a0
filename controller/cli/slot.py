"""`rondel explain WORKFLOW --at TIME`: why a slot started, or did not."""

from datetime import datetime

from controller.cli.common import Format, find_workflow, now, print_json, print_yaml
from controller.cli.schedule import of_store
from controller.errors import UsageError
from controller.model import view
from controller.reconcile.backfill import moment
from controller.reconcile.slot_story import Facts, Story, story
from controller.store.reader import Reader


def explain_slot(store: Reader, workflow: str, at: str, output: Format) -> None:
    """Print what became of the slot at a time, for each schedule that has it; else of each."""
    found = find_workflow(store, workflow)
    key = f"{found.source}/{found.name}"
    declaration = next(iter(of_store(store, [key], suspended=True)), None)
    if declaration is None:
        raise UsageError("is not loaded", where=key, remedy="see `rondel describe workflow`")
    if not declaration.schedules:
        raise UsageError("has no schedule: it has no slots", where=key)
    facts = Facts(
        declaration=declaration,
        status=found,
        runs=store.runs(source=found.source, workflow=found.name),
        events=store.events(source=found.source, workflow=found.name),
        controllers=bool(store.instances()),
        now=now(),
    )
    asked = [(one, moment(at, one.time_zone)) for one in declaration.schedules]
    told = [(when, story(facts, one, when)) for one, when in asked]
    slots = [pair for pair in told if pair[1].answer != "NoSlot"] or told
    views = [{"source": found.source, "workflow": found.name, **shown(*pair)} for pair in slots]
    if output is Format.JSON:
        print_json(views)
    elif output is Format.YAML:
        print_yaml(views)
    else:
        for one in views:
            print(f"{one['time']}  {one['schedule']}  {one['answer']}: {one['words']}")


def shown(when: datetime, one: Story) -> dict[str, object]:
    return {
        "time": view.time(when),
        "schedule": one.schedule,
        "answer": one.answer,
        "run": one.run,
        "words": one.words,
    }
