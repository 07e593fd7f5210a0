"""Steps on an engine's double: their lines, codes and files, and the engine's cache."""

import asyncio

from controller.execute.dagger.said import LEFT_OUT
from controller.execute.ports import Placement, Verdict
from tests.dagger_double.house import Page


async def test_a_step_gives_its_code_its_lines_and_what_it_wrote(house):
    script = "echo out; echo err >&2; mkdir d; echo 1 > d/f; echo 2 > g; exit 3"
    async with house.session() as session:
        request = house.request(script, collect={"d": "d", "g": "g", "none": "none"})
        outcome = await session.attempt(request, page := Page())
    assert (outcome.verdict, outcome.exit_code) == (Verdict.COMPLETED, 3), outcome.error
    assert page.written == {"stdout": b"out\n", "stderr": b"err\n"}
    assert set(outcome.collected) == {"d", "g"}
    assert (outcome.collected["d"] / "f").read_text() == "1\n"
    assert outcome.collected["g"].read_text() == "2\n"


async def test_collected_paths_start_at_the_working_directory(house):
    async with house.session() as session:
        request = house.request("echo 1 > f", workdir="deep/er", collect={"f": "f"})
        outcome = await session.attempt(request, Page())
    assert outcome.collected["f"].read_text() == "1\n"


async def test_lines_come_while_the_step_runs(house):
    async with house.session() as session:
        request = house.request("echo early; sleep 300; echo late")
        task = asyncio.create_task(session.attempt(request, page := Page()))
        await page.wrote.wait()
        assert page.written["stdout"] == b"early\n"
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])


async def test_lines_that_got_lost_on_the_way_are_asked_for(house):
    house.engine.loses = lambda text: "b" in text
    async with house.session() as session:
        request = house.request("echo a; sleep 0.2; echo b; sleep 0.2; echo c")
        await session.attempt(request, page := Page())
    assert page.written["stdout"] in {
        b"a\nc\nb\n",
        b"a\nb\nc\n",
    }  # c may have been later than the end
    assert page.notes in ([LEFT_OUT], [])


async def test_a_signalled_step_keeps_its_code_and_its_lines(house):
    async with house.session() as session:
        outcome = await session.attempt(house.request("echo last words; exit 137"), page := Page())
    assert (outcome.verdict, outcome.exit_code) == (Verdict.COMPLETED, 137)
    assert page.written["stdout"].strip() == b"last words"
    assert len(house.engine.executions) == 1


async def test_mounts_are_copies_in_a_workspace_of_its_own(house, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("hello")
    (tmp_path / "one").write_text("single")
    mounts = (
        Placement(source=tmp_path / "in", path="."),
        Placement(source=tmp_path / "one", path="x/one.txt"),
        Placement(source=tmp_path / "one", path="/etc/one"),
    )
    async with house.session() as session:
        request = house.request("cat a x/one.txt; echo more >> a", mounts=mounts)
        outcome = await session.attempt(request, page := Page())
    assert (outcome.exit_code, page.written["stdout"]) == (0, b"hellosingle")
    assert (tmp_path / "in" / "a").read_text() == "hello"
    (made,) = house.engine.executions
    assert made.args("withFile")[-1]["path"] == "/etc/one"
    assert [args["path"] for args in made.args("withMountedDirectory")] == ["/work", "/work"]
    assert made.args("withFile")[-1]["source"].calls[0][1]["noCache"]


async def test_an_agents_inputs_are_a_file_that_a_variable_names(house):
    async with house.session() as session:
        await session.attempt(house.request("true", inputs=b'{"a": 1}'), Page())
    (made,) = house.engine.executions
    assert made.args("withNewFile") == [{"path": "/rondel/inputs.json", "contents": '{"a": 1}'}]
    assert {"name": "RONDEL_INPUTS", "value": "/rondel/inputs.json"} in made.args("withEnvVariable")


async def test_the_workspace_belongs_to_the_images_user(house):
    house.engine.users["docker.io/busybox"] = "1000:1000"
    async with house.session() as session:
        await session.attempt(house.request("true"), Page())
    (made,) = house.engine.executions
    assert made.args("withMountedDirectory")[0]["owner"] == "1000:1000"


async def test_a_step_without_a_command_runs_the_images_own(house):
    async with house.session() as session:
        request = house.request("true")
        object.__setattr__(request, "argv", ())
        await session.attempt(request, Page())
    (query,) = house.query("withExec")[-1:]
    assert "useEntrypoint: true" in query


async def test_a_step_that_is_not_cached_has_a_fresh_variable_just_before_its_command(house):
    async with house.session() as session:
        for _ in range(2):
            await session.attempt(house.request("true", context={"RONDEL_STEP": "s"}), Page())
    assert len(house.engine.executions) == 2
    for made in house.engine.executions:
        (before, value), (last, words) = made.calls[-2:]
        assert (before, value["name"], last) == ("withEnvVariable", "RONDEL_NONCE", "withExec")
        assert words["expect"] == "ANY"


async def test_a_cacheable_step_is_answered_from_the_engines_cache_with_its_lines(house):
    pages = [Page(), Page()]
    for page, run in zip(pages, ("r1", "r2"), strict=True):
        async with house.session() as session:
            request = house.request("echo hi", cacheable=True, context={"RONDEL_RUN_ID": run})
            await session.attempt(request, page)
    assert len(house.engine.executions) == 1
    assert [page.written["stdout"] for page in pages] == [b"hi\n", b"hi\n"]
    (made,) = house.engine.executions
    assert made.args("withVolatileVariable") == [{"name": "RONDEL_RUN_ID", "value": "r1"}]
    assert made.args("withEnvVariable") == []


async def test_a_failure_of_a_cacheable_step_is_never_kept(house):
    async with house.session() as session:
        codes = [
            (await session.attempt(house.request("exit 4", cacheable=True), Page())).exit_code
            for _ in range(2)
        ]
    assert codes == [4, 4]
    assert len(house.engine.executions) == 2
