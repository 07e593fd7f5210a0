"""Which steps of a run would be served by kept results: the rules of a run, and nothing is run."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from graphlib import TopologicalSorter

from controller.errors import RondelError, StalledError, TransientError
from controller.execute import rules
from controller.execute.cached import Asked, Cached, images_of, place, takes_part
from controller.execute.request import Materials
from controller.execute.rows import Rows
from controller.manifest.evaluate import condition
from controller.manifest.matrix import combinations
from controller.manifest.template import expressive, references
from controller.model.run import Phase, StepRun
from controller.model.workflow import Json, Param, Step, Workflow
from controller.reconcile.preview import Fate, StepPreview
from controller.reconcile.step_key import in_words

OF_THE_OCCASION = frozenset({"id", "revision", "scheduledTime"})
"""What of `run` nobody knows before there is one. Its date is taken to be today's."""


class Forecast:
    """One run that was not made, walked as far as kept results go."""

    def __init__(
        self,
        workflow: Workflow,
        materials: Materials,
        cached: Cached,
        *,
        assumed: Callable[[str], str],
    ) -> None:
        """Take up a run.

        Args:
            workflow: as it would be pinned.
            materials: of the run: its params, the digests of its inputs, its secrets' versions.
            cached: asks the ledger of results, as a run would.
            assumed: says of an image what is taken for granted; "" for nothing.
        """
        self._workflow = workflow
        self._materials = materials
        self._cached = cached
        self._assumed = assumed
        self._steps: dict[str, Step] = {}  # of the section that is walked
        self._reads = {step.name: rules.uses(step) for step in workflow.every_step}
        self._rows = Rows.of_workflow(materials.run.id, workflow)
        self._open: set[str] = set()  # steps of which nobody knows what they will come to
        self._unforeseen = unforeseen(workflow.params)

    async def steps(self) -> tuple[StepPreview, ...]:
        """Return what becomes of each step; hooks and finally only behind steps all served."""
        self._materials.begin()
        found = await self._section(self._workflow.steps)
        if self._open:
            return tuple(found)
        self._materials.note_phase(Phase.SUCCEEDED)
        for section in (self._workflow.on_success, self._workflow.finally_):
            found += await self._section(section)
        return tuple(found)

    async def _section(self, steps: Sequence[Step]) -> list[StepPreview]:
        self._steps = own = {step.name: step for step in steps}
        needs = {step.name: [one for one in step.needs if one in own] for step in steps}
        found = {
            name: await self._step(own[name]) for name in TopologicalSorter(needs).static_order()
        }
        return [one for step in steps for one in found[step.name]]

    async def _step(self, step: Step) -> list[StepPreview]:
        if step.alert is not None:  # a word, no work
            self._end(step, Phase.SUCCEEDED)
            return []
        if why := self._obscure(step):
            return [self._left_open(step, Fate.UNKNOWN, why)]
        try:
            skipped = self._skipped(step, None) if self._asked_once(step) else ""
            if not skipped and step.matrix is not None:
                self._unfold(step)
        except StalledError as error:
            return [self._left_open(step, Fate.RUN, str(error))]
        if skipped:
            self._end(step, Phase.SKIPPED, rules.CONDITION_FALSE)
            return [StepPreview(name=step.name, fate=Fate.SKIPPED, message=skipped)]
        if not takes_part(step):
            return [self._left_open(step, Fate.RUN, "its results are not kept")]
        return await self._served(step)

    def _obscure(self, step: Step) -> str:
        """Return why nobody can know what becomes of a step; "" when one can."""
        behind = next((need for need in step.needs if need in self._open), None)
        if behind is not None:
            return f"it waits for {behind}"
        if step.uses is not None:
            return f"the steps of {step.uses.workflow} decide for themselves"
        unknown = [one.secret for one in step.secrets if one.secret not in self._materials.secrets]
        if unknown:
            return f"the configuration that was read has no secret {unknown[0]}"
        named = {name for text in rules.texts(step) for name in references(text)}
        return next((f"it uses {'.'.join(one)}" for one in sorted(named & self._unforeseen)), "")

    def _asked_once(self, step: Step) -> bool:
        return not (step.matrix and rules.of_combination(step.when))

    def _skipped(self, step: Step, matrix: Mapping[str, Json] | None) -> str:
        """Return why a step, or a combination of it, doesn't run. Raises StalledError."""
        held = rules.held(step, self._reads[step.name], self._steps, self._rows.of)
        if held is not None:
            return held[1]
        if step.when is None or condition(step.when, self._materials.scope_of(matrix)):
            return ""
        return f"its `when` is false: {step.when}"

    def _unfold(self, step: Step) -> None:
        """Make a matrix step's rows, where it has combinations. Raises StalledError."""
        if step.matrix is not None and self._rows.of(step.name)[0].matrix is None:
            self._rows.unfold(step.name, combinations(step.matrix, self._materials.scope))

    async def _served(self, step: Step) -> list[StepPreview]:
        """Return what becomes of a step whose results are kept, combination by combination."""
        if step.matrix is not None and self._rows.of(step.name)[0].matrix is None:
            self._end(step, Phase.SUCCEEDED)  # there are no combinations
            return []
        found = []
        for row in list(self._rows.of(step.name)):
            fate, why = await self._row(step, row)
            found.append(StepPreview(name=step.name, fate=fate, matrix=row.matrix, message=why))
        if any(one.fate in {Fate.RUN, Fate.UNKNOWN} for one in found):
            self._open.add(step.name)
        else:
            self._materials.note(step, self._rows.of(step.name))
        return found

    async def _row(self, step: Step, row: StepRun) -> tuple[Fate, str]:
        try:
            skipped = "" if self._asked_once(step) else self._skipped(step, row.matrix)
        except StalledError as error:
            return Fate.RUN, str(error)
        if skipped:
            self._rows.put(ended(row, Phase.SKIPPED, rules.CONDITION_FALSE))
            return Fate.SKIPPED, skipped
        asked = (await self._cached.ask([(step, row)])).get(place(row))
        if asked is None:
            return Fate.UNKNOWN, await self._keyless(step)
        if asked.entry is None:
            return Fate.RUN, differing(asked)
        served, _ = await self._cached.serve(asked, row)
        self._rows.put(served)
        assumptions = filter(None, map(self._assumed, sorted(images_of(step))))
        return Fate.CACHED, ", ".join((f"the result of run {asked.entry.run}", *assumptions))

    async def _keyless(self, step: Step) -> str:
        """Return why a step's key can't be known."""
        for image in sorted(images_of(step)):
            try:
                await self._cached.image(image)
            except (StalledError, TransientError) as error:
                return str(error)
        return "its key is known once it runs"

    def _left_open(self, step: Step, fate: Fate, why: str) -> StepPreview:
        self._open.add(step.name)
        return StepPreview(name=step.name, fate=fate, message=why)

    def _end(self, step: Step, phase: Phase, reason: str = "") -> None:
        for row in list(self._rows.of(step.name)):
            self._rows.put(ended(row, phase, reason))
        self._materials.note(step, self._rows.of(step.name))


def ended(row: StepRun, phase: Phase, reason: str) -> StepRun:
    return replace(row, phase=phase, reason=reason)


def differing(asked: Asked) -> str:
    """Return why no result serves a step, in words."""
    more = asked.more or {}
    if more.get("why"):
        return str(more["why"])
    return ", ".join(map(in_words, more.get("differs", ()))) or "no result of it is kept"


def unforeseen(params: Iterable[Param]) -> frozenset[tuple[str, ...]]:
    """Return the names whose values nobody knows before there is a run."""
    own = {("run", name) for name in OF_THE_OCCASION}
    derived = {
        ("params", param.name.replace("-", "_"))
        for param in params
        for _, text in expressive(param.default)
        if references(text) & own
    }
    return frozenset(own | derived)


def refused(workflow: Workflow, materials: Materials) -> bool:
    """Tell whether the workflow's own `when` skips the run."""
    materials.begin()
    try:
        return bool(workflow.when) and not condition(workflow.when or "", materials.scope)
    except RondelError:
        return False
