"""Results of steps that were kept: a step whose key is known need not run.

Keys are asked for in batches, before the first attempt; steps that take no part cost nothing.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from controller.clock import Clock
from controller.errors import StalledError, TransientError
from controller.execute.house import House, LineTold
from controller.execute.logs import parsed
from controller.execute.ports import Blobs, Results
from controller.execute.request import Materials, expressive
from controller.manifest.template import OPENING
from controller.model.cache import CacheEntry, CacheResult, Scope, note, origin
from controller.model.changes import Change, PutCacheEntry, PutStep, SealLog, UseCacheEntry
from controller.model.run import Phase, StepRun
from controller.model.workflow import CacheMode, Json, Step
from controller.reconcile import step_key

CACHED = "Cached"  # the reason of a step that was served
USED_EVERY = timedelta(minutes=1)  # so finely it is known when a result was used last
WRITE_FAILED = "CacheWriteFailed"


Place: TypeAlias = tuple[str, int]
"""A step's name and the index of its combination."""


def place(row: StepRun) -> Place:
    return row.name, row.index


@dataclass(frozen=True, slots=True)
class Asked:
    """A step's key, and what the ledger of results said to it."""

    step: Step  # evaluated, its images by digest: what runs when no result serves it
    key: str
    parts: Mapping[str, Json]
    result: CacheResult
    entry: CacheEntry | None = None  # of a hit
    more: Mapping[str, Json] | None = None  # of a miss: `why`, `nearest`, `differs`

    @property
    def told(self) -> Mapping[str, Json]:
        """Return what the step's row keeps of it."""
        of = origin(self.entry) if self.entry is not None else self.more
        return {"result": str(self.result), "key": self.key, **(of or {})}


def takes_part(step: Step) -> bool:
    """Tell whether the step's results are kept; a called workflow's steps decide for themselves."""
    return step.cache.mode is not CacheMode.OFF and step.uses is None and step.alert is None


def images_of(step: Step) -> set[str]:
    """Return the images that the step's key names, but for those named by an expression."""
    named = {step.image, *(one.image for one in step.services)} if takes_part(step) else set()
    return {image for image in named if image and OPENING not in image}


def self_contained(step: Step) -> bool:
    """Tell whether the step's key is the same whatever other steps come to."""
    return not expressive(step) and not any(mount.artifact for mount in step.mounts)


class Cached:
    """What one run asks of the ledger of results, and gives to it."""

    def __init__(
        self,
        results: Results,
        materials: Materials,
        *,
        blobs: Blobs,
        clock: Clock,
        scopes: Sequence[Scope],
        executor: str,
        resolve: Callable[[str], Awaitable[str]],
        told: LineTold | None = None,
    ) -> None:
        self._results = results
        self._materials = materials
        self._blobs = blobs
        self._clock = clock
        self._scopes = scopes
        self._told = told
        self._executor = executor
        self._resolve = resolve
        self._images: dict[str, str] = {}  # text -> with its digest, once in a run

    async def resolve_images(self) -> None:
        """Tags become digests once, before the first step. Raises as `Session.resolve_image`."""
        for image in sorted(
            {one for step in self._materials.workflow.steps for one in images_of(step)}
        ):
            await self.image(image)

    async def image(self, text: str) -> str:
        """Return the image's name with its digest. Raises as `Session.resolve_image`."""
        if text not in self._images:
            self._images[text] = await self._resolve(text)
        return self._images[text]

    async def ask(self, asking: Iterable[tuple[Step, StepRun]]) -> dict[Place, Asked]:
        """Return the answer for each row that takes part and whose key can be known now."""
        steps: dict[Place, Step] = {}
        keyed: dict[Place, Asked] = {}
        for step, row in asking:
            asked = await self.keyed(step, row)
            if asked is not None:
                steps[place(row)], keyed[place(row)] = step, asked
        if not keyed or self._materials.run.fresh:
            return keyed
        found = await self._results.look_up(self._scopes, {one.key for one in keyed.values()})
        misses: dict[Place, str] = {}
        for at, asked in keyed.items():
            entry = found.get(asked.key)
            why = "" if entry is None else await self._unfit(entry, steps[at])
            if entry is None or why:
                misses[at] = why
            else:
                keyed[at] = replace(asked, result=CacheResult.HIT, entry=entry)
        return keyed | await self._missed({at: keyed[at] for at in misses}, misses)

    async def keyed(self, step: Step, row: StepRun) -> Asked | None:
        """Return the row's key; None when it takes no part, or when its attempt must say why.

        What keeps a key from being known (an expression without a value, an artifact that was
        not made, a registry out of reach) fails the attempt, in its own words and with retries.
        """
        if not takes_part(step):
            return None
        try:
            pinned = await self._pinned(self._materials.evaluate(step, row.matrix))
        except (StalledError, TransientError, ArtifactMissing):
            return None
        held = self._materials
        parts = step_key.parts(
            pinned,
            image=pinned.image or "",
            inputs=held.run.inputs,
            artifacts=held.artifacts,
            secrets={name: version(identity) for name, (identity, _) in held.secrets.items()},
            executor=self._executor,
        )
        result = CacheResult.FRESH if held.run.fresh else CacheResult.MISS
        return Asked(pinned, step_key.key(parts), parts, result)

    async def _pinned(self, step: Step) -> Step:
        """Return the step with its images by digest: a tag that moves never spoils a result."""
        made = self._materials.artifacts
        for mount in step.mounts:
            if mount.artifact and mount.artifact not in made:
                raise ArtifactMissing(mount.artifact)
        services = [
            replace(one, image=await self.image(one.image)) if one.image else one
            for one in step.services
        ]
        image = await self.image(step.image) if step.image else step.image
        if image == step.image and not services:
            return step
        return replace(step, image=image, services=tuple(services))

    async def _unfit(self, entry: CacheEntry, step: Step) -> str:
        """Return why a result can't serve the step; "" when it can."""
        now = self._clock.now()
        if min(entry.expires_at, entry.created_at + step.cache.ttl) <= now:
            return f"the result of run {entry.run} has expired"
        if entry.exit_code not in step.success_exit_codes:
            return f"the result of run {entry.run} has exit code {entry.exit_code}"
        blobs = [*entry.artifacts.values(), *([entry.log] if entry.log else [])]
        if blobs:
            try:
                await self._blobs.verify(blobs)
            except StalledError as error:
                return f"the result of run {entry.run} is damaged: {error}"
        return ""

    async def _missed(
        self, asked: Mapping[Place, Asked], whys: Mapping[Place, str]
    ) -> dict[Place, Asked]:
        """Return the misses, each with what it differs in from the result most like it."""
        if not asked:
            return {}
        workflow = self._materials.run.workflow
        steps = {name for name, _ in asked}
        newest = await self._results.newest(self._scopes, workflow, steps)
        return {
            at: replace(one, more=step_key.explained(one.parts, whys[at], newest.get(at[0], ())))
            for at, one in asked.items()
        }

    async def serve(self, asked: Asked, row: StepRun) -> tuple[StepRun, tuple[Change, ...]]:
        """Return the row of a step that a result serves, and the changes that say so."""
        entry = asked.entry
        assert entry is not None  # noqa: S101 - a hit
        now = self._clock.now()
        if self._told is not None:
            await self._replay(self._told, entry, row)
        row = replace(
            row,
            phase=Phase.SUCCEEDED,
            reason=CACHED,
            exit_code=entry.exit_code,
            cached=True,
            cache=asked.told,
            outputs=entry.outputs,
            artifacts=entry.artifacts,
            error="",
            started_at=row.started_at or now,
            finished_at=now,
        )
        put = PutStep(step=row, at=now, message=note(row.cache))
        if now - entry.last_used_at < USED_EVERY:
            return row, (put,)
        used = UseCacheEntry(source=entry.source, ref=entry.ref, key=entry.key, at=now)
        return row, (put, used)

    async def _replay(self, told: LineTold, entry: CacheEntry, row: StepRun) -> None:
        """Tell who watches the run live what the step said when it ran."""
        number = row.attempts + 1
        told(row.run, row.label, number, None, note(origin(entry)))
        for raw in (await self._blobs.get(entry.log)).splitlines() if entry.log else ():
            line = parsed(raw.decode("utf-8", "replace"))
            told(row.run, row.label, number, line["stream"], line["line"] or "")

    def kept(self, asked: Asked, step: Step, row: StepRun, log: SealLog | None) -> PutCacheEntry:
        """Return the change that keeps the result of a step that has succeeded."""
        now = self._clock.now()
        source, ref = self._scopes[0]
        return PutCacheEntry(
            entry=CacheEntry(
                source=source,
                ref=ref,
                key=asked.key,
                parts=asked.parts,
                workflow=self._materials.run.workflow,
                step=row.name,
                run=row.run,
                exit_code=row.exit_code or 0,
                outputs=row.outputs,
                artifacts=row.artifacts,
                log=None if log is None else log.log,
                log_truncated=log is not None and log.truncated,
                seconds=took(row, now),
                created_at=now,
                last_used_at=now,
                expires_at=now + step.cache.ttl,
            )
        )


def cached_of(
    house: House,
    materials: Materials,
    *,
    executor: str,
    resolve: Callable[[str], Awaitable[str]],
) -> Cached | None:
    """Return what a run asks the ledger of results with; None when no step of it takes part."""
    if house.results is None or not any(map(takes_part, materials.workflow.every_step)):
        return None
    return Cached(
        house.results,
        materials,
        blobs=house.blobs,
        clock=house.clock,
        scopes=house.scopes(materials.run.source),
        executor=executor,
        resolve=resolve,
        told=house.on_line,
    )


class Answers:
    """What one section's rows were answered; those whose keys are known are asked for together."""

    def __init__(self, cached: Cached) -> None:
        self._cached = cached
        self._asked: set[Place] = set()
        self._answers: dict[Place, Asked] = {}
        self.serve = cached.serve

    async def of(
        self, step: Step, row: StepRun, known: Callable[[], Iterable[tuple[Step, StepRun]]]
    ) -> Asked | None:
        """Return the answer for a row; `known` gives others that can be asked for beside it."""
        if not takes_part(step):
            return None
        if place(row) not in self._asked:
            asking = {place(other): (one, other) for one, other in known()}
            asking[place(row)] = (step, row)
            new = {at: both for at, both in asking.items() if at not in self._asked}
            self._asked.update(new)
            self._answers |= await self._cached.ask(new.values())
        return self._answers.pop(place(row), None)


class ArtifactMissing(Exception):  # noqa: N818 - not an error: the attempt will say so
    """A mount names an artifact that no step has made."""


def took(row: StepRun, now: datetime) -> float:
    return 0.0 if row.started_at is None else (now - row.started_at).total_seconds()


def version(identity: str) -> str:
    """Return the version of a secret named "<source>/<secret>@<version>"."""
    return identity.rpartition("@")[2]
