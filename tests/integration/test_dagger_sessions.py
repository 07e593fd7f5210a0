"""Sessions on an engine's double: opened, spare, lost, refused, ended."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from controller.errors import StalledError, TransientError
from controller.execute.dagger import check, command, executor, watch
from controller.execute.dagger.folder import PREFIX, PrivateFolder, sweep
from controller.execute.keeper import KeeperLostError
from controller.execute.ports import Verdict
from controller.model.settings import DaggerSettings
from tests.dagger_double.house import WORKFLOW, Page, a_run, gone, once, until


async def test_a_bad_gateway_loses_the_session_and_is_never_sent_again(house):
    async with house.session() as session:
        house.engine.broken = lambda query: 502 if "withExec" in query else None
        outcome = await session.attempt(house.request("true"), Page())
    assert (outcome.verdict, outcome.reason) == (Verdict.TRANSIENT, "SessionLost")
    assert len(house.query("withExec")) == 1


async def test_cancelling_an_attempt_ends_its_process_and_leaves_the_session_of_use(house):
    async with house.session() as session:
        page = Page()
        task = asyncio.create_task(session.attempt(house.request("echo $$; sleep 300"), page))
        await page.wrote.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: gone(int(page.written["stdout"])))
        assert (await session.attempt(house.request("true"), Page())).exit_code == 0


async def test_a_killed_command_loses_the_session_also_of_steps_that_run(house):
    async with house.session() as session:
        page = Page()
        task = asyncio.create_task(session.attempt(house.request("echo up; sleep 300"), page))
        await page.wrote.wait()
        os.kill(house.cli.pids[0], signal.SIGKILL)
        outcome = await task
        assert (outcome.verdict, outcome.reason) == (Verdict.TRANSIENT, "SessionLost")
        again = await session.attempt(house.request("true"), Page())
        assert again.reason == "SessionLost"


async def test_an_engine_that_falls_silent_loses_the_session(house, monkeypatch):
    monkeypatch.setattr(watch, "PROBE_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(watch, "PROBE_SECONDS", 0.05)
    async with house.session() as session:
        house.engine.silent = lambda _: True
        outcome = await session.attempt(house.request("true"), Page())
    assert (outcome.verdict, outcome.reason) == (Verdict.TRANSIENT, "SessionLost")
    assert "not answered" in outcome.error


async def test_steps_at_once_keep_their_own_lines(house):
    async with house.session() as session:
        pages = [Page() for _ in range(10)]
        await asyncio.gather(
            *(
                session.attempt(house.request(f"echo {n}; echo {n}"), page)
                for n, page in enumerate(pages)
            )
        )
    assert [page.written["stdout"] for page in pages] == [f"{n}\n{n}\n".encode() for n in range(10)]


async def test_the_command_sees_a_clean_environment_and_ends_with_its_session(house):
    async with house.session():
        pid = house.cli.pids[0]
        seen = house.cli.environment(pid)
    assert "A_TOKEN_OF_THE_DAEMON" not in seen
    assert seen["HOME"].startswith(str(house.memory))
    assert seen["DAGGER_NO_UPDATE_CHECK"] == seen["DO_NOT_TRACK"] == "1"
    assert "session" in house.cli.argv(pid)
    assert all(gone(one) for one in house.cli.pids)


async def test_the_environment_is_as_before_once_a_session_is_open(house):
    async with house.session():
        assert not [name for name in os.environ if name.startswith("DAGGER_SESSION")]


async def test_the_next_session_is_opened_ahead_and_serves_one_run_only(house):
    dagger = house.executor()
    await dagger.start()
    await until(lambda: house.query("version"))
    first = await dagger.open(a_run(), WORKFLOW)
    second = await dagger.open(a_run(), WORKFLOW)
    assert first is not second
    await until(lambda: len(house.cli.pids) == 3)  # one more waits
    await dagger.stop()
    assert all(gone(one) for one in house.cli.pids)
    assert house.folders == []


async def test_a_spare_session_whose_process_died_is_not_used(house):
    dagger = house.executor()
    await dagger.start()
    await asyncio.wait([dagger._spare])
    os.kill(house.cli.pids[0], signal.SIGKILL)
    await until(lambda: not dagger._spare.result().alive)
    session = await dagger.open(a_run(), WORKFLOW)
    assert (await session.attempt(house.request("true"), Page())).exit_code == 0
    await dagger.stop()


@pytest.mark.parametrize("setting", ["OLDEST", "FRESH"])
async def test_a_spare_session_that_is_old_or_does_not_answer_is_not_used(
    house, monkeypatch, setting
):
    monkeypatch.setattr(executor, setting, executor.OLDEST * 0)
    monkeypatch.setattr(executor, "LOOK_SECONDS", 0.2)
    dagger = house.executor()
    await dagger.start()
    await asyncio.wait([dagger._spare])
    spare = dagger._spare.result()
    if setting == "FRESH":
        house.engine.silent = once(lambda query: "version" in query)
    assert await dagger.open(a_run(), WORKFLOW) is not spare
    await dagger.stop()


async def test_a_command_that_says_nothing_is_given_up_and_killed(house, monkeypatch):
    monkeypatch.setattr(executor, "OPEN_SECONDS", 0.5)
    monkeypatch.setattr(command, "END_SECONDS", 0.2)
    house.cli.behave("echo 'pulling the engine' >&2; exec sleep 300")
    dagger = house.executor()
    with pytest.raises(TransientError, match=r"within 0\.5 s: pulling the engine") as raised:
        await dagger.open(a_run(), WORKFLOW)
    assert raised.value.reason == "EngineUnavailable"
    await until(lambda: all(gone(one) for one in house.cli.pids))
    await dagger.stop()
    assert house.folders == []


async def test_an_engine_that_is_half_alive_is_given_up_within_one_bound(house, monkeypatch):
    monkeypatch.setattr(executor, "OPEN_SECONDS", 0.5)
    house.engine.silent = lambda _: True
    house.cli.behave("trap '' TERM; exec 2>/dev/null")
    dagger = house.executor()
    await dagger.start()
    async with asyncio.timeout(5):  # less than its process may take to end
        with pytest.raises(TransientError, match=r"not ready within 0\.5 s") as raised:
            await dagger.open(a_run(), WORKFLOW)
    assert raised.value.reason == "EngineUnavailable"
    await dagger.stop()
    assert all(gone(one) for one in house.cli.pids)
    assert house.folders == []


async def test_a_session_that_can_not_be_begun_leaves_no_pipe(house):
    dagger = house.executor()
    keeper = dagger._keeper
    await keeper.start()
    before = pipes()
    os.kill(keeper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, keeper.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(KeeperLostError):
        await command.start(keeper, dagger._settings, house.memory, "n")
    assert pipes() == before
    await dagger.stop()


def pipes():
    """Return how many ends of pipes this process has open."""
    return sum("pipe:" in str(one.resolve()) for one in Path("/proc/self/fd").iterdir())


async def test_a_command_that_fails_is_quoted(house):
    house.cli.behave("echo 'no engine at home' >&2; exit 1")
    with pytest.raises(TransientError, match="no engine at home"):
        await check(DaggerSettings(cli=str(house.cli.path)))


async def test_an_engine_that_does_not_speak_graphql_is_unavailable(house):
    house.engine.broken = lambda _: 500
    with pytest.raises(TransientError) as raised:
        await check(DaggerSettings(cli=str(house.cli.path)))
    assert raised.value.reason == "EngineUnavailable"


async def test_a_command_that_is_missing_is_for_a_person(house):
    with pytest.raises(StalledError) as raised:
        await check(DaggerSettings(cli="/nowhere/dagger"))
    assert raised.value.reason == "DaggerMissing"


async def test_checking_tells_the_versions(house):
    assert (await check(DaggerSettings(cli=str(house.cli.path))))["dagger-engine"] == "v0.21.7"


async def test_after_a_failed_opening_the_next_one_works(house):
    dagger = house.executor()
    house.cli.behave("exit 1")
    await dagger.start()
    with pytest.raises(TransientError):
        await dagger.open(a_run(), WORKFLOW)
    house.cli.behave()
    session = await dagger.open(a_run(), WORKFLOW)
    assert (await session.attempt(house.request("true"), Page())).exit_code == 0
    await dagger.stop()


async def test_a_crashs_private_folders_are_removed_and_those_in_use_are_not(house):
    living = PrivateFolder(house.memory)
    left = house.memory / f"{PREFIX}left"
    left.mkdir(mode=0o700)
    (left / "secret").write_text("s3cr3t")
    (house.memory / "other").mkdir()
    assert sweep(house.memory) == 1
    assert sorted(house.memory.iterdir()) == sorted([living.path, house.memory / "other"])
    living.remove()
    assert not living.path.exists()


async def test_a_link_among_the_private_folders_is_left_alone(house, tmp_path):
    (tmp_path / "precious").mkdir()
    (house.memory / f"{PREFIX}link").symlink_to(tmp_path / "precious")
    assert sweep(house.memory) == 0
    assert (tmp_path / "precious").exists()
