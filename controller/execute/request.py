"""A step and its scope to what an executor is given."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

from controller.digest import canonical
from controller.execute import results
from controller.execute.ports import (
    AttemptRequest,
    Blobs,
    CacheMount,
    Placement,
    SecretValue,
    ServiceRequest,
)
from controller.manifest.evaluate import evaluated
from controller.manifest.expression import as_text, run_scope
from controller.manifest.template import OPENING, written
from controller.model.run import Phase, Run, StepRun
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
    inputs: Mapping[str, Path] = field(default_factory=dict)
    scope: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)  # "step.name" -> digest
    cache_scope: str = ""  # of cache volumes, see `cache_scope`; "" is the source's, without a ref

    def begin(self) -> None:
        """Make the names that expressions see."""
        self.scope = {
            "params": dict(self.run.params),
            "run": run_scope(self.run),
            "workflow": {"name": self.workflow.name, "labels": self.workflow.labels},
            "inputs": {name: {"digest": one} for name, one in self.run.inputs.items()},
            "steps": self.scope.get("steps", {}),
        }

    def note(self, done: StepRun) -> None:
        """Let later steps see what this one has come to."""
        self.scope["steps"][written(done.name)] = {
            "phase": str(done.phase),
            "exitCode": done.exit_code,
            "outputs": done.outputs,
            "artifacts": done.artifacts,
        }
        for name, digest in done.artifacts.items():
            self.artifacts[f"{done.name}.{name}"] = digest

    def note_phase(self, phase: Phase) -> None:
        """Hooks and finally steps see the run's phase so far."""
        self.scope["run"] = {**self.scope["run"], "phase": str(phase)}

    def evaluate(self, step: Step) -> Step:
        """Return the step with its expressions evaluated. Raises ExpressionError."""
        return evaluated(step, self.scope) if expressive(step) else step

    async def request(self, step: Step, *, number: int, nonce: str) -> AttemptRequest:
        """Return one attempt of an evaluated step.

        Raises:
            StalledError: an artifact that a mount names is gone or damaged.
        """
        return AttemptRequest(
            run=self.run.id,
            step=step.name,
            index=0,
            number=number,
            nonce=nonce,
            argv=argv(step),
            module=step.module,
            image=step.image,
            env=environment(step),
            context=self.context(step, number),
            secrets=self.secret_values(step),
            workdir=step.workdir or ".",
            user=step.user,
            mounts=tuple([await self.placement(mount) for mount in step.mounts]),
            caches=self.cache_mounts(step),
            services=tuple(service_request(one) for one in step.services),
            collect=results.wanted(step),
            inputs=None if step.inputs is None else json.dumps(step.inputs).encode(),
            cacheable=step.cache.mode is not CacheMode.OFF and not self.run.fresh,
            staging=self.folder / "staging" / f"{step.name}.0.{number}",
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
        scope = self.cache_scope or cache_scope(self.run.source)
        return tuple(
            CacheMount(key=one.key, path=one.path, sharing=one.sharing, scope=scope)
            for one in step.caches
        )

    async def placement(self, mount: Mount) -> Placement:
        if mount.input is not None:
            return Placement(source=self.inputs[mount.input], path=mount.path)
        digest = self.artifacts[mount.artifact or ""]
        target = self.folder / "artifacts" / digest.removeprefix("sha256:")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            await self.blobs.restore(digest, target)
        return Placement(source=target, path=mount.path)


def expressive(step: Step) -> bool:
    """Tell whether the step holds an expression; most steps of most graphs don't."""
    return OPENING in repr(step)


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
