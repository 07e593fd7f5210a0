"""A step and its scope to what an executor is given."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

from controller.digest import canonical
from controller.errors import StalledError
from controller.execute import results
from controller.execute.ports import (
    AttemptRequest,
    Blobs,
    CacheMount,
    Placement,
    SecretValue,
    ServiceRequest,
)
from controller.execute.seen import seen
from controller.manifest.agents import unfit
from controller.manifest.evaluate import evaluated
from controller.manifest.expression import as_text, run_scope
from controller.manifest.template import OPENING, written
from controller.model.run import Attempt, Phase, Run, StepRun
from controller.model.workflow import CacheMode, Json, Mount, Service, Step, Workflow

SHELL = ("sh", "-eu", "-c")  # of a service's script: its image need not have the step's


@dataclass(slots=True)
class Materials:
    """What the steps of one run are given: inputs and artifacts on this host, secrets, names."""

    run: Run
    workflow: Workflow
    folder: Path  # of the run; staging and restored artifacts live below it
    blobs: Blobs
    secrets: Mapping[str, tuple[str, str]]  # name -> (identity, value)
    cache_scope: str  # of cache volumes, see `cache_scope`
    inputs: Mapping[str, Path] = field(default_factory=dict)
    scope: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, Json] = field(default_factory=dict)  # "step.name" -> digest, or a list
    restoring: asyncio.Lock = field(default_factory=asyncio.Lock)  # steps may want the same one

    def begin(self) -> None:
        """Make the names that expressions see."""
        self.scope = {
            "params": dict(self.run.params),
            "run": run_scope(self.run),
            "workflow": {"name": self.workflow.name, "labels": self.workflow.labels},
            "inputs": {name: {"digest": one} for name, one in self.run.inputs.items()},
            "steps": self.scope.get("steps", {}),
        }

    def note(self, step: Step, rows: Sequence[StepRun]) -> None:
        """Let later steps see what this one has come to."""
        told = self.scope["steps"][written(step.name)] = seen(step, rows)
        for name, found in told["artifacts"].items():
            self.artifacts[f"{step.name}.{name}"] = found

    def note_phase(self, phase: Phase) -> None:
        """Hooks and finally steps see the run's phase so far."""
        self.scope["run"] = {**self.scope["run"], "phase": str(phase)}

    def scope_of(self, matrix: Mapping[str, Json] | None) -> Mapping[str, Any]:
        """Return what a step sees; one of a matrix sees its combination too."""
        return self.scope if matrix is None else {**self.scope, "matrix": matrix}

    def evaluate(self, step: Step, matrix: Mapping[str, Json] | None) -> Step:
        """Return the step with its expressions evaluated.

        Raises:
            ExpressionError: one gives no value.
            StalledError: InvalidInputs, they don't fit the agent's schema.
        """
        step = evaluated(step, self.scope_of(matrix)) if expressive(step) else step
        if step.inputs_schema and (problem := unfit(step)):
            remedy = "see the inputs of its agent"
            raise StalledError(problem, where=step.name, reason="InvalidInputs", remedy=remedy)
        return step

    async def request(self, step: Step, attempt: Attempt) -> AttemptRequest:
        """Return one attempt of an evaluated step.

        Raises:
            StalledError: an artifact that a mount names is gone or damaged.
        """
        return AttemptRequest(
            run=self.run.id,
            step=step.name,
            index=attempt.index,
            number=attempt.number,
            nonce=attempt.nonce,
            argv=argv(step),
            module=step.module,
            image=step.image,
            env=environment(step),
            context=self.context(step, attempt.number),
            secrets=self.secret_values(step),
            workdir=step.workdir or ".",
            user=step.user,
            mounts=tuple([await self.placement(mount) for mount in step.mounts]),
            caches=self.cache_mounts(step),
            services=tuple(service_request(one) for one in step.services),
            collect=results.wanted(step),
            inputs=None if step.inputs is None else json.dumps(step.inputs).encode(),
            cacheable=step.cache.mode is not CacheMode.OFF and not self.run.fresh,
            staging=self.folder / "staging" / f"{step.name}.{attempt.index}.{attempt.number}",
        )

    def context(self, step: Step, number: int) -> Mapping[str, str]:
        run = self.run
        time = run.logical_time.astimezone(UTC).isoformat(timespec="seconds")
        return {
            "RONDEL_RUN_ID": run.id,
            "RONDEL_WORKFLOW": run.workflow,
            "RONDEL_STEP": step.name,
            "RONDEL_ATTEMPT": str(number),
            "RONDEL_REVISION": run.revision,
            "RONDEL_TRIGGER": str(run.trigger),
            "RONDEL_SCHEDULED_TIME": time.replace("+00:00", "Z"),
        }

    def secret_values(self, step: Step) -> tuple[SecretValue, ...]:
        return tuple(
            SecretValue(
                identity=self.secrets[use.secret][0],
                value=self.secrets[use.secret][1],
                name=use.name,
                file=use.file,
            )
            for use in step.secrets
        )

    def cache_mounts(self, step: Step) -> tuple[CacheMount, ...]:
        scope = self.cache_scope
        return tuple(
            CacheMount(key=one.key, path=one.path, sharing=one.sharing, scope=scope)
            for one in step.caches
        )

    async def placement(self, mount: Mount) -> Placement:
        if mount.input is not None:
            return Placement(source=self.inputs[mount.input], path=mount.path)
        name = mount.artifact or ""
        found = self.artifacts.get(name)
        if found is None:
            raise StalledError(f"{name} was not written", reason="ArtifactMissing")
        async with self.restoring:
            folder = self.folder / "artifacts"
            if isinstance(found, list):
                source = await self._restored_list(found, folder / name)
            else:
                source = await self._restored(found, folder / found.removeprefix("sha256:"))
        return Placement(source=source, path=mount.path)

    async def _restored(self, digest: str, target: Path) -> Path:
        if lacks(target):
            await self.blobs.restore(digest, target)
        return target

    async def _restored_list(self, digests: list[str | None], target: Path) -> Path:
        """Return a folder with one entry for each combination that wrote one, named 0, 1, ..."""
        for index, digest in enumerate(digests):
            if digest is not None:
                await self._restored(digest, target / str(index))
        return made(target)


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def lacks(target: Path) -> bool:
    """Tell whether there is nothing at `target` yet; then the folder above it is made."""
    if target.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    return True


def expressive(step: Step) -> bool:
    """Tell whether the step holds an expression; most steps of most graphs don't."""
    return step.expressive and OPENING in repr(step)


def argv(step: Step) -> tuple[str, ...]:
    if step.script is not None:
        return (*step.shell, step.script)
    return step.args or ()


def environment(step: Step) -> dict[str, str]:
    """Return the step's variables as text; null unsets, other values are their JSON text."""
    return variables(step.env)


def variables(env: Mapping[str, Json]) -> dict[str, str]:
    return {name: as_text(value) for name, value in env.items() if value is not None}


def service_request(service: Service) -> ServiceRequest:
    """Return a service of an evaluated step."""
    return ServiceRequest(
        name=service.name,
        argv=service.args if service.script is None else (*SHELL, service.script),
        image=service.image,
        env=variables(service.env),
        ready_port=service.ready_port,
    )


def cache_scope(source: str, ref: str = "") -> str:
    """Return the scope of a source's cache volumes at a ref ("branch:main"; "" of a Directory)."""
    return canonical([source, ref])


def shared_cache_scope(name: str) -> str:
    """Return the scope of the cache volumes that several sources share under a name."""
    return canonical([name])
