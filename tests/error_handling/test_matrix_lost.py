"""Matrix steps of runs that are cancelled, or whose controller is gone."""

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from controller.model.changes import StartAttempt, StartRun
from controller.model.run import Attempt, Phase, Section, StepRun
from controller.model.workflow import Matrix
from tests.engine_lab import lab, step, workflow
from tests.integration.test_matrix import echo, render

ROOT = Path(__file__).parents[2]


async def test_a_cancelled_run_leaves_no_combination_open(tmp_path):
    matrix = Matrix(axes={"n": [1, 2, 3]}, max_parallel=1)
    each = step("each", "sleep 30", matrix=matrix)
    late = step("late", matrix=Matrix(each="${{ params.none }}"), needs=("each",))
    async with lab(tmp_path) as rig:
        run = await rig.claimed()
        task = asyncio.create_task(rig.engine.execute(run, workflow(each, late)))
        while not (await rig.story(run.id)).attempts:
            await asyncio.sleep(0.02)
        assert rig.engine.cancel(run.id)
        assert await task is Phase.CANCELLED
        story = await rig.story(run.id)
    assert story.each("each") == ["Cancelled/Cancelled", *["Skipped/RunEnded"] * 2]
    assert story.each("late") == ["Skipped/RunEnded"]


async def test_a_run_of_a_lost_controller_leaves_no_combination_open(tmp_path):
    each = replace(render("true"), matrix=Matrix(axes={"format": ["a", "b", "c"]}))
    last = echo("last", "${{ matrix.n }}", matrix=Matrix(each="${{ ['x', 'y'] }}", item="n"))
    page = echo("page", "${{ steps.render.phase }}")
    wanted = workflow(each, step("after", needs=("render",)), on_failure=(page,), finally_=(last,))
    async with lab(tmp_path) as rig:
        run = await rig.claimed()
        rows = [
            *(
                StepRun(
                    run=run.id,
                    name="render",
                    index=n,
                    matrix={"format": letter},
                    phase=phase,
                    attempts=int(phase is not Phase.PENDING),
                )
                for n, (letter, phase) in enumerate(
                    zip("abc", (Phase.SUCCEEDED, Phase.RUNNING, Phase.PENDING), strict=True)
                )
            ),
            StepRun(run=run.id, name="after", position=1),
            StepRun(run=run.id, name="page", section=Section.ON_FAILURE, position=2),
            StepRun(run=run.id, name="last", section=Section.FINALLY, position=3),
        ]
        attempt = Attempt(
            run=run.id, step="render", index=1, number=1, nonce="n", started_at=run.created_at
        )
        await rig.store.record(
            StartRun(run=run.id, at=run.created_at, executor="local", steps=tuple(rows)),
            StartAttempt(attempt=attempt),
        )
        assert await rig.engine.recover(run, wanted, rows, [attempt]) is Phase.INTERRUPTED
        story = await rig.story(run.id)
        assert story.each("render") == [
            "Succeeded",
            "Interrupted/ControllerLost",
            "Skipped/RunEnded",
        ]
        assert story.told()["after"] == "Skipped/RunEnded"
        assert story.each("last") == ["Succeeded", "Succeeded"]
        assert await story.text("page") == "Interrupted"
        assert all(one.phase.terminal for one in story.attempts)


CONTROLLER = """
import asyncio, sys
from pathlib import Path
from controller.model.workflow import Matrix
from tests.engine_lab import lab, step, workflow

async def main():
    async with lab(Path(sys.argv[1])) as rig:
        run = await rig.claimed()
        matrix = Matrix(each="${{ ['quick', 'slow', 'waits'] }}", item="n", max_parallel=1)
        words = '[ "$N" = quick ] || { echo begun > "$MARK"; sleep 60; }'
        env = {"N": "${{ matrix.n }}", "MARK": str(Path(sys.argv[1]) / "mark")}
        await rig.engine.execute(run, workflow(step("each", words, matrix=matrix, env=env)))

asyncio.run(main())
"""


async def test_a_killed_controller_leaves_rows_that_recovery_ends(tmp_path):
    killed = subprocess.Popen([sys.executable, "-c", CONTROLLER, str(tmp_path)], cwd=ROOT)
    try:
        async with asyncio.timeout(20):
            while not (tmp_path / "mark").exists():
                await asyncio.sleep(0.02)
    finally:
        killed.kill()
        killed.wait()
    async with lab(tmp_path) as rig:
        [(run, steps, attempts)] = await rig.store.recover_candidates()
        wanted = workflow(step("each", matrix=Matrix(each="${{ [] }}", max_parallel=1)))
        assert await rig.engine.recover(run, wanted, steps, attempts) is Phase.INTERRUPTED
        story = await rig.story(run.id)
        assert await rig.store.recover_candidates() == []
    assert story.each("each") == ["Succeeded", "Interrupted/ControllerLost", "Skipped/RunEnded"]
    assert [row.label for row in story.rows] == ["each[n=quick]", "each[n=slow]", "each[n=waits]"]
    assert [str(one.phase) for one in story.attempts] == ["Succeeded", "Interrupted"]
