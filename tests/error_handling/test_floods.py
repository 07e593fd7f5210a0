"""Very much at once: ten thousand files, a gigabyte of output."""

import asyncio
import resource
from contextlib import asynccontextmanager

from controller.model.run import Phase
from controller.model.settings import DirectorySource, Settings
from controller.reconcile import keys
from tests.controlled import running
from tests.e2e.controller_process import ON_CHANGE, manifest
from tests.engine_lab import lab, step, workflow

FILES = 10_000
GIGABYTE = 1 << 30
LINE = "0123456789abcdef" * 1024  # 16 KiB: how fast a pipe is read, not how fast lines are cut
MEMORY = 128 << 20


@asynccontextmanager
async def serving(tmp_path, folder):
    source = DirectorySource(name="w", path=str(folder))
    settings = Settings(
        state_dir=tmp_path / "state",
        executor="local",
        sources=(source,),
        input_max_size=1,  # what is kept for a rerun is another test's
    )
    async with running(settings, seconds=60) as made:
        yield made


async def test_ten_thousand_files_changed_at_once_are_one_change_of_what_they_end_as(tmp_path):
    folder = tmp_path / "w"
    for part in range(100):
        (folder / "data" / f"{part:02}").mkdir(parents=True)
    files = [folder / "data" / f"{n % 100:02}" / f"{n:05}" for n in range(FILES)]
    for file in files:
        file.write_text("before")
    spec = ON_CHANGE + "  inputs: [{name: data, path: data}]\n"
    (folder / "one.yaml").write_text(manifest("one", "true", spec))
    async with serving(tmp_path, folder) as made:
        for file in files:
            file.write_text("after, and longer")
        async with asyncio.timeout(60):
            while not (done := await newest(made)):
                await asyncio.sleep(0.1)
        [declaration] = made._loading._places["w"].loaded.declarations.values()
        index = keys.Index(made._loading._places["w"].snapshot.entries)
        assert done.inputs == {"data": index.digest(declaration.inputs[0])}
        runs = await made.store.read(lambda reader: reader.runs())
        assert len(runs) == len({run.identity for run in runs})
        assert {run.phase for run in runs} <= {Phase.SUCCEEDED, Phase.SKIPPED}


async def newest(made):
    """Return the run of the newest change once it is one of the new content and has ended."""
    entries = made._loading._places["w"].snapshot.entries
    data = {entry.blob for path, entry in entries.items() if path.startswith("data/")}
    status = await made.store.read(lambda reader: reader.workflow("w", "one"))
    runs = await made.store.read(lambda reader: reader.runs(phases={Phase.SUCCEEDED}))
    if len(data) != 1 or status is None or status.change < 2:
        return None
    return next((run for run in runs if run.identity == f"change:{status.change}"), None)


async def test_a_gigabyte_of_output_is_bounded_in_the_log_and_in_memory(tmp_path):
    async with lab(tmp_path, log_max_size=1 << 20) as rig:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        script = f"yes {LINE} | head -c {GIGABYTE}; echo; echo last"
        story = await rig.execute(workflow(step("a", script)))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before
        assert story.phase is Phase.SUCCEEDED
        attempt = story.attempt("a")
        assert attempt.log_truncated
        assert len(await rig.store.blobs.get(attempt.log)) < 1 << 21
        lines = await story.log("a")
        assert (lines[0]["line"], lines[-1]["line"]) == (LINE, "last")
        assert grown < MEMORY
