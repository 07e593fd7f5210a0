"""A run engine on a real store, without a daemon above it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from controller.clock import SystemClock
from controller.execute.engine import RunEngine
from controller.execute.local import LocalExecutor
from controller.model.run import Phase
from controller.model.settings import InfrastructureRetry
from controller.secrets import ConfiguredSecrets
from controller.store import Store
from tests.bench.measure import must
from tests.conftest import Inputs, Lab, Story


@asynccontextmanager
async def engine(
    folder: Path, synchronous: str = "FULL", *, inputs: Path | None = None
) -> AsyncIterator[Lab]:
    """An engine with its state in `folder`, and inputs from there or from another folder."""
    clock, state = SystemClock(), folder / "state"
    store = await Store.open(state, clock=clock, kind="exec", synchronous=synchronous)
    made = RunEngine(
        ledger=store,
        blobs=store.blobs,
        inputs=Inputs(inputs or folder),
        secrets=ConfiguredSecrets({}),
        executors={"local": LocalExecutor(state_dir=state)},
        clock=clock,
        state_dir=state,
        max_steps=20,
        log_max_size=64 << 20,
        infrastructure_retry=InfrastructureRetry(),
        results=store,
    )
    await made.start()
    try:
        yield Lab(store, made, clock)
    finally:
        await made.stop()
        await store.close()


def done(story: Story, steps: int) -> None:
    """Every step ran once and was recorded with its exit code."""
    must(story.run.phase is Phase.SUCCEEDED, f"the run is {story.run.phase}")
    must(len(story.attempts) == steps == len(story.steps), f"{len(story.attempts)} attempts")
    must(all(one.exit_code == 0 for one in story.attempts), "an attempt has no exit code")
