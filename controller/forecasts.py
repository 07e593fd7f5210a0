"""Forecasts of one source's runs, from what its store has kept."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from controller import layout, manifest
from controller.assembly import scopes
from controller.clock import Clock
from controller.errors import RondelError, StalledError
from controller.execute.cached import Cached, takes_part
from controller.execute.forecast import Forecast, refused
from controller.execute.request import Materials
from controller.manifest.agents import pinned
from controller.model import view
from controller.model.cache import CacheEntry, Scope
from controller.model.run import Run, Trigger
from controller.model.settings import Settings
from controller.model.source import Declaration
from controller.model.workflow import Workflow
from controller.reconcile.preview import Action, Preview, Side, forecast_of, held_back
from controller.store import BlobStore, Reader
from controller.store.results import look_up, newest

IMAGE = "image:"  # of images among a run's versions
RECENT = 20  # runs of a workflow that are looked through for an image's digest


class Forecasts:
    """What the store can say of runs that a change would start."""

    def __init__(
        self, settings: Settings, source: str, reader: Reader, clock: Clock, side: Side
    ) -> None:
        """Take up a source.

        Args:
            settings: whose secrets' versions, executor and defaults of workflows count.
            source: its name.
            reader: of the store.
            clock: tells what has expired, and today's date.
            side: the one that would be loaded.
        """
        self._settings = settings
        self._source = source
        self._reader = reader
        self._clock = clock
        self._side = side
        self._blobs = Glanced(layout.blobs(Path(settings.state_dir)))

    async def advance(self, preview: Preview) -> Preview:
        """Return a preview with what becomes of its run, where one starts now."""
        declaration = self._side.declarations.get(preview.name)
        if preview.action is not Action.RUN or declaration is None:
            return preview
        try:
            return await self._forecast(preview, declaration)
        except RondelError:
            return preview  # the run ends before its first step, and will say why itself

    async def _forecast(self, preview: Preview, declaration: Declaration) -> Preview:
        body = pinned(self._side.bodies[preview.name], self._settings.dagger, self._side.agents)
        workflow = manifest.workflow(body)
        run = self._run(workflow)
        if not self._settings.dagger.cache_enabled or not complete(declaration, run.inputs):
            return preview
        materials = self._materials(run, workflow)
        if refused(workflow, materials):
            return held_back(preview, "the run is skipped: the workflow's `when` is false")
        if not any(map(takes_part, workflow.every_step)):
            return preview
        earlier = self._reader.runs(source=run.source, workflow=run.workflow, limit=RECENT)
        executor = executor_of(earlier) or self._settings.executor
        images = Images(earlier, moving=executor == "dagger")
        cached = Cached(
            Kept(self._reader),
            materials,
            blobs=self._blobs,
            clock=self._clock,
            scopes=scopes(self._settings, self._source),
            executor=executor,
            resolve=images.resolve,
        )
        steps = Forecast(workflow, materials, cached, assumed=images.assumed)
        return forecast_of(preview, await steps.steps())

    def _run(self, workflow: Workflow) -> Run:
        """Return the run that the change would start, as far as anybody knows it."""
        run = Run(
            id="",
            source=self._source,
            workflow=workflow.name,
            trigger=Trigger.CHANGE,
            identity="",
            inputs=self._side.digests.get(workflow.name, {}),
            created_at=self._clock.now(),
        )
        return replace(run, params=manifest.resolve_params(workflow, {}, run))

    def _materials(self, run: Run, workflow: Workflow) -> Materials:
        known = self._settings.secrets.items()
        return Materials(
            run=run,
            workflow=workflow,
            folder=Path(),
            blobs=self._blobs,
            secrets={name: (f"{self._source}/{name}@{one.version}", "") for name, one in known},
            cache_scope="",
        )


def complete(declaration: Declaration, inputs: Mapping[str, str]) -> bool:
    """Tell whether every input is there."""
    return all(one.name in inputs for one in declaration.inputs)


def executor_of(earlier: Iterable[Run]) -> str:
    """Return where the newest run was executed that was; "" when none was.

    Not what the configuration says: the command line of the controller may say otherwise.
    """
    return next((run.executor for run in earlier if run.executor), "")


class Images:
    """The digests that a workflow's images had when its runs used them last; nobody is asked."""

    def __init__(self, earlier: Iterable[Run], *, moving: bool) -> None:
        """Take up a workflow's runs, the newest first.

        `moving`: the executor looks tags up; otherwise an image is its text.
        """
        self._moving = moving
        self._recorded: dict[str, tuple[str, datetime]] = {}  # image -> with its digest; when
        for run in earlier:
            for name, reference in run.versions.items():
                if name.startswith(IMAGE):
                    seen = (reference, run.started_at or run.created_at)
                    self._recorded.setdefault(name.removeprefix(IMAGE), seen)

    async def resolve(self, image: str) -> str:
        """Return the image with its last digest. Raises StalledError when there is none."""
        if not self._moving:
            return image
        if image not in self._recorded:
            problem = f"no run of late has used the image {image}"
            raise StalledError(problem, reason="ImageUnknown")
        return self._recorded[image][0]

    def assumed(self, image: str) -> str:
        """Say what is taken for granted of an image; "" for nothing."""
        found = self._recorded.get(image) if self._moving else None
        return f"assuming {image} unmoved since {view.time(found[1])}" if found else ""


class Kept:
    """Kept results, read; implements `execute.ports.Results`."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def look_up(
        self, scopes: Sequence[Scope], keys: Collection[str]
    ) -> Mapping[str, CacheEntry]:
        return look_up(self._reader, scopes, keys)

    async def newest(
        self, scopes: Sequence[Scope], workflow: str, steps: Collection[str]
    ) -> Mapping[str, Sequence[CacheEntry]]:
        return newest(self._reader, scopes, workflow, steps)


class Glanced(BlobStore):
    """Blobs that are looked for, not read through: a plan copies and hashes no gigabytes."""

    async def verify(self, digests: Collection[str]) -> None:
        for one in digests:
            if not self.path(one).exists():
                raise StalledError("it is gone", reason="BlobMissing", where=one)
