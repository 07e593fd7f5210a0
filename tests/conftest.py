"""What tests share: an engine on a real store, and a `rondel` to call."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller import ids, manifest
from controller.clock import SystemClock
from controller.execute.engine import RunEngine
from controller.execute.local import LocalExecutor
from controller.manifest.agents import pinned
from controller.manifest.around import Around
from controller.model.agent import Agent
from controller.model.changes import ClaimRun, CreateRun
from controller.model.run import Attempt, Run, StepRun
from controller.model.settings import (
    DaggerSettings,
    DirectorySource,
    InfrastructureRetry,
    SecretRef,
)
from controller.model.workflow import Backoff
from controller.reconcile.runs import manual_run
from controller.secrets import ConfiguredSecrets
from controller.source import open_source
from controller.store import Store

QUICK = InfrastructureRetry(limit=2, backoff=Backoff(duration=Backoff().duration / 1000))


class Inputs:
    """Inputs of one folder."""

    def __init__(self, root: Path) -> None:
        settings = DirectorySource(name="test", path=str(root))
        self.source = open_source(settings, state_dir=root, clock=SystemClock())

    def lasting(self, _):
        return False

    async def materialise(self, _, revision, wanted, target):
        return await self.source.materialise(revision, wanted, target)


class Lab:
    """A run engine on a real store; runs what it is given and tells what became of it."""

    def __init__(self, store: Store, engine: RunEngine, clock: SystemClock) -> None:
        self.store, self.engine, self.clock = store, engine, clock
        self.lines: list[tuple[str, str]] = []

    async def make(
        self,
        spec: dict[str, Any],
        *,
        source: str = "test",
        agents: Mapping[str, Agent] | None = None,
        **fields: Any,
    ) -> Run:
        """Create and claim a run of a spec, whose steps may use these agents."""
        around = Around(agents=agents or {})
        _, body = manifest.build_workflow({"name": "w"}, spec, around=around)
        body = pinned(body, DaggerSettings(), agents)
        run = manual_run(source, "w", key=ids.nonce(), now=self.clock.now(), spec=body, **fields)
        await self.store.record(
            CreateRun(run=run),
            ClaimRun(run=run.id, instance=self.store.instance, at=self.clock.now()),
        )
        return replace(run, instance=self.store.instance)

    async def run(self, spec: dict[str, Any], **fields: Any) -> "Story":
        run = await self.make(spec, **fields)
        await self.engine.execute(run, manifest.workflow(run.spec))
        return await self.story(run.id)

    async def story(self, run_id: str) -> "Story":
        found = await self.store.read(
            lambda r: (r.run(run_id), r.steps(run_id), r.attempts(run_id))
        )
        assert found[0] is not None
        return Story(self, found[0], found[1], found[2])


class Story:
    def __init__(self, lab: Lab, run: Run, steps: list[StepRun], attempts: list[Attempt]) -> None:
        self.run, self.attempts = run, attempts
        self.steps = {step.name: step for step in steps}
        self.phases = {step.name: str(step.phase) for step in steps}
        self._lab = lab

    async def log(self, step: str, number: int = 1) -> str:
        one = next(a for a in self.attempts if (a.step, a.number) == (step, number))
        return (await self._lab.store.blobs.get(one.log)).decode() if one.log else ""


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    clock = SystemClock()
    state = tmp_path / "state"
    (tmp_path / "root").mkdir()
    store = await Store.open(state, clock=clock, kind="exec")
    token = tmp_path / "token"
    token.write_text("s3cr3t-value\n")
    made: list[Lab] = []
    engine = RunEngine(
        ledger=store,
        blobs=store.blobs,
        inputs=Inputs(tmp_path / "root"),
        secrets=ConfiguredSecrets(
            {
                "token": SecretRef(name="token", file=str(token), version="1", sources=("test",)),
                "hidden": SecretRef(name="hidden", file=str(token)),
            }
        ),
        executors={"local": LocalExecutor(state_dir=state)},
        clock=clock,
        state_dir=state,
        max_steps=20,
        log_max_size=64 << 20,
        infrastructure_retry=QUICK,
        results=store,
        on_line=lambda _, step, __, ___, text: made[0].lines.append((step, text)),
    )
    made.append(Lab(store, engine, clock))
    await engine.start()
    yield made[0]
    await engine.stop()
    await store.close()


Rondel = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(**more: str) -> dict[str, str]:
    """The environment of a `rondel` process: nothing of Rondel's own from outside."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("RONDEL_")}
    return {**kept, **more}


@pytest.fixture
def rondel(tmp_path: Path) -> Rondel:
    """Call the command line on a state directory of the test."""

    def call(*words: object, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "controller.cli.main", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(RONDEL_STATE_DIR=str(tmp_path / "state"), **more),
            cwd=tmp_path,
            check=False,
        )

    return call
