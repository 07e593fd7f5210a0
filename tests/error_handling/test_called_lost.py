"""Called workflows of a controller that was killed."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from controller import manifest
from controller.model.run import Phase
from controller.reconcile.runs import interrupted_rerun
from tests.engine_lab import lab
from tests.integration.test_called import TIDY, body, call, there

ROOT = Path(__file__).parents[2]
CONTROLLER = """
import asyncio, sys
from pathlib import Path
from controller import manifest
from tests.engine_lab import lab

async def main():
    async with lab(Path(sys.argv[1])) as rig:
        text = Path(sys.argv[2]).read_text()
        run = await rig.claimed(spec=text)
        await rig.engine.execute(run, manifest.workflow(text))

asyncio.run(main())
"""


async def test_after_kill_9_caller_and_called_are_interrupted_and_nothing_runs_twice(tmp_path):
    mark, pinned = tmp_path / "mark", tmp_path / "pinned.json"
    slow = {
        "onInterrupt": "Rerun",
        "steps": [{"name": "work", "script": f"echo x >> {mark}; sleep 60"}],
        "finally": TIDY,
    }
    last = {"finally": [call("last", "tidy")], "steps": [call("a", "slow")]}
    pinned.write_text(body("w", last, slow=body("slow", slow), tidy=body("tidy", {"steps": TIDY})))
    words = [sys.executable, "-c", CONTROLLER, str(tmp_path), str(pinned)]
    killed = subprocess.Popen(words, cwd=ROOT)
    try:
        await there(mark)
    finally:
        killed.kill()
        killed.wait()
    async with lab(tmp_path) as rig:
        lost = await rig.store.recover_candidates()
        assert {run.workflow for run, _, _ in lost} == {"w", "slow"}
        for run, steps, attempts in lost:
            workflow = manifest.workflow(run.spec)
            ours = replace(run, instance=rig.store.instance)
            ended = await rig.engine.recover(ours, workflow, steps, attempts)
            assert ended is Phase.INTERRUPTED
            answer = interrupted_rerun(run, workflow, datetime.now(UTC))
            assert run.parent is None or answer is None, "its caller is what was triggered"
        runs = await rig.store.read(lambda reader: reader.runs())
        stories = {one.workflow: await rig.story(one.id) for one in runs}
        assert await stories["tidy"].text("tidy") == "tidied"
        assert await rig.store.recover_candidates() == []
    lost_step = "Interrupted/ControllerLost"
    assert stories["w"].told() == {"a": lost_step, "last": "Succeeded"}
    assert stories["slow"].told() == {"work": lost_step, "tidy": "Succeeded"}
    assert mark.read_text() == "x\n"
