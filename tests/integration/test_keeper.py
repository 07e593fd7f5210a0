"""The keeper: whatever a step starts ends with it."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from controller.execute.keeper import Keeper, KeeperLostError, sweep

PATH = os.environ["PATH"]


@pytest.fixture
async def keeper():
    made = Keeper(PATH)
    await made.start()
    yield made
    await made.stop()


async def spawn(keeper, script, nonce="n1"):
    null = os.open(os.devnull, os.O_RDWR)
    try:
        return await keeper.spawn(
            ["sh", "-c", script],
            env={"PATH": PATH, "RONDEL_NONCE": nonce},
            cwd="/",
            stdin=null,
            stdout=null,
            stderr=null,
        )
    finally:
        os.close(null)


def alive(mark: str) -> list[str]:
    found = subprocess.run(
        ["pgrep", "-f", f"sleep {mark}$"], capture_output=True, text=True, check=False
    )
    return found.stdout.split()


async def gone(mark: str) -> bool:
    for _ in range(100):
        if not alive(mark):
            return True
        await asyncio.sleep(0.02)
    return False


async def test_exit_codes_are_a_shells(keeper):
    assert await (await spawn(keeper, "exit 7")).wait() == 7
    assert await (await spawn(keeper, "kill -9 $$")).wait() == 137


async def test_a_command_that_is_not_there_is_an_error_of_its_own(keeper):
    null = os.open(os.devnull, os.O_RDWR)
    child = await keeper.spawn(
        ["no-such"], env={"PATH": PATH}, cwd="/", stdin=null, stdout=null, stderr=null
    )
    os.close(null)
    with pytest.raises(FileNotFoundError):
        await child.wait()


@pytest.mark.parametrize(
    "escape",
    [
        pytest.param("sleep {0} &", id="a-child-in-the-background"),
        pytest.param("setsid sleep {0} &", id="one-that-called-setsid"),
        pytest.param("(setsid sh -c 'sleep {0} & exit' &) ; sleep 0.1", id="one-that-forked-twice"),
        pytest.param("(setsid env -i {1} {0} &); sleep 0.1", id="one-without-its-environment"),
    ],
)
async def test_nothing_a_step_started_survives_it(keeper, escape):
    mark = str(40000 + os.getpid() % 10000 + hash(escape) % 1000)
    sleep = subprocess.check_output(["which", "sleep"], text=True).strip()
    child = await spawn(keeper, escape.format(mark, sleep))
    assert await child.wait() == 0
    assert await gone(mark)


async def test_an_escapee_does_not_take_its_neighbours_with_it(keeper):
    other = await spawn(keeper, "sleep 1; exit 5", nonce="n2")
    first = await spawn(keeper, "(setsid env -i /bin/sleep 41999 &); sleep 0.1")
    assert await first.wait() == 0
    assert await other.wait() == 5
    assert await gone("41999")


async def test_a_process_that_ignores_the_polite_signal_is_killed(keeper):
    child = await spawn(keeper, "trap '' TERM; while :; do sleep 0.05; done")
    await child.started
    await asyncio.sleep(0.3)  # until the shell has set its trap
    child.terminate()
    await asyncio.sleep(0.2)
    assert not child.ended.done()
    child.kill()
    assert await child.wait() == 137


async def test_a_keeper_that_is_lost_says_so_and_is_started_anew(keeper):
    child = await spawn(keeper, "sleep 42001")
    await child.started
    os.kill(keeper.pid, signal.SIGKILL)
    with pytest.raises(KeeperLostError):
        await child.wait()
    sweep({"n1"})
    assert await (await spawn(keeper, "exit 3", nonce="n3")).wait() == 3
    assert await gone("42001")


async def test_everything_ends_when_the_daemon_is_killed(tmp_path):
    script = tmp_path / "daemon.py"
    script.write_text(
        "import asyncio, os\n"
        "from controller.execute.keeper import Keeper\n"
        "async def main():\n"
        "    keeper = Keeper(os.environ['PATH'])\n"
        "    null = os.open(os.devnull, os.O_RDWR)\n"
        "    for script in ('sleep 43001', 'setsid sleep 43002 & sleep 43003'):\n"
        "        child = await keeper.spawn(['sh', '-c', script], env={'PATH': os.environ['PATH']},"
        " cwd='/', stdin=null, stdout=null, stderr=null)\n"
        "        await child.started\n"
        "    print('up', flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "up\n"
        await asyncio.sleep(0.2)
        daemon.kill()
    for mark in ("43001", "43002", "43003"):
        assert await gone(mark)


async def test_a_thousand_starts_at_once_all_come_back(keeper):
    children = await asyncio.gather(*(spawn(keeper, f"exit {i % 50}") for i in range(300)))
    codes = await asyncio.gather(*(child.wait() for child in children))
    assert codes == [i % 50 for i in range(300)]
