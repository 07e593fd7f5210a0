"""A controller says whether it can work: /readyz and rondel_engine_up, on the engine's double."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from controller.daemon import Daemon
from controller.execute.dagger import executor
from controller.model.settings import DaggerSettings, Settings
from controller.serve.address import socket_path


@asynccontextmanager
async def serving(tmp_path, **settings):
    """Serve in this loop; yield the daemon and a client on its socket."""
    daemon = Daemon(Settings(state_dir=tmp_path / "state", **settings))
    task = asyncio.create_task(daemon.serve())
    path = socket_path(Path(daemon.settings.state_dir))
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://rondel") as http:
            await until(lambda: answers(http))
            yield daemon, http
    finally:
        daemon.stop()
        await task


async def until(holds):
    async with asyncio.timeout(20):
        while not await holds():
            await asyncio.sleep(0.02)


async def answers(http):
    try:
        return (await http.get("/healthz")).json()["ok"]
    except httpx.TransportError:
        return False


async def is_ready(http):
    return (await http.get("/readyz")).status_code == 200


async def engine_up(http):
    lines = (await http.get("/metrics")).text.splitlines()
    return [line.split()[1] for line in lines if line.startswith("rondel_engine_up")]


async def test_a_controller_is_ready_once_its_engine_could_be_reached(house, tmp_path, monkeypatch):
    monkeypatch.setattr(executor, "AGAIN_SECONDS", 0.05)
    house.cli.behave("exit 1")
    dagger = DaggerSettings(cli=str(house.cli.path))
    async with serving(tmp_path, executor="dagger", dagger=dagger) as (daemon, http):
        await until(daemon.ready.wait)
        answer = await http.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {
            "ok": False,
            "checks": {
                "loaded": True,
                "store": True,
                "engine": False,
                "stopping": False,
                "draining": False,
            },
        }
        assert await engine_up(http) == ["0.0"]
        house.cli.behave()  # it is back, and no run had to ask for it
        await until(lambda: is_ready(http))
        assert await engine_up(http) == ["1.0"]


async def test_without_an_engine_none_is_waited_for_and_none_is_measured(tmp_path):
    async with serving(tmp_path, executor="local") as (_, http):
        await until(lambda: is_ready(http))
        assert await engine_up(http) == []


async def test_a_controller_whose_store_can_not_be_read_is_not_ready(tmp_path):
    async with serving(tmp_path, executor="local") as (daemon, http):
        await until(lambda: is_ready(http))
        await daemon.store.close()
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["checks"]["store"]) == (503, False)
