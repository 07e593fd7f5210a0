"""Services, cache volumes and users of the dagger executor, on the engine's double."""

import asyncio
import socket
import sys
import time
from pathlib import Path

import pytest

from controller.errors import StalledError
from controller.execute import companions
from controller.execute.dagger import DaggerExecutor
from controller.execute.ports import CacheMount, Placement, ServiceRequest, Verdict
from controller.model.workflow import CacheSharing, ModuleCall, Service, Step, Workflow
from tests.dagger_double.house import Page, until

LOCKED, PRIVATE = CacheSharing.LOCKED, CacheSharing.PRIVATE
SERVE = (
    "import http.server as h, sys; print('serving', flush=True); "
    "h.HTTPServer(('127.0.0.1', {}), h.SimpleHTTPRequestHandler).serve_forever()"
)


@pytest.fixture
def port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def web(port, **words):
    argv = (sys.executable, "-c", SERVE.format(port))
    facts = {"name": "my-web", "image": "busybox", "argv": argv, "ready_port": port}
    return ServiceRequest(**facts | words)


async def test_a_service_is_ready_before_the_step_and_gone_after_it(house, port):
    async with house.session() as session:
        fetch = f"{sys.executable} -c \"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}')\""
        request = house.request(f"{fetch}; echo $MY_WEB_HOST", services=(web(port),))
        outcome = await session.attempt(request, page := Page())
        assert (outcome.exit_code, page.written["stdout"]) == (0, b"my-web\n"), outcome.error
        assert b"[my-web] serving\n" in page.written["stderr"]
        assert all(one.over for one in house.engine.services.values())
    (made,) = house.engine.executions
    assert [args["alias"] for args in made.args("withServiceBinding")] == ["my-web"]


async def test_a_service_names_its_attempt_so_that_no_other_shares_it(house, port):
    context = {"RONDEL_STEP": "s"}
    service = web(port, env={"MINE": "1"})
    async with house.session() as session:
        for _ in range(2):
            request = house.request("true", services=(service,), context=context, cacheable=True)
            await session.attempt(request, Page())
    assert len(house.engine.services) == len(house.engine.executions) == 2
    for one in house.engine.services.values():
        env = {args["name"]: args["value"] for args in one.made.args("withEnvVariable")}
        assert env == {"RONDEL_STEP": "s", "MINE": "1", "RONDEL_NONCE": env["RONDEL_NONCE"]}
        assert not one.made.args("withVolatileVariable"), "they don't reach a service"
        assert one.made.args("withWorkdir") == [{"path": "/work"}]
        assert one.made.args("withExposedPort") == [{"port": port}]


async def test_a_service_without_a_command_runs_its_images_own_where_that_starts(house):
    async with house.session() as session:
        request = house.request("true", services=(web(None, argv=None, ready_port=None),))
        await session.attempt(request, Page())
    (query, *_) = house.query("asService")
    assert "useEntrypoint: true" in query
    (one,) = house.engine.services.values()
    assert one.made.args("withWorkdir") == []


async def test_a_service_that_dies_before_it_is_ready_says_its_last_words(house, port):
    dying = web(port, argv=("sh", "-c", "echo out; echo bad >&2; exit 7"))
    async with house.session() as session:
        with pytest.raises(StalledError, match="exit code 7 before it was ready") as found:
            await session.attempt(house.request("true", services=(dying,)), page := Page())
    assert found.value.reason == "ServiceNotReady"
    assert "[my-web] bad" in str(found.value)
    assert sorted(page.written["stderr"].splitlines()) == [b"[my-web] bad", b"[my-web] out"]
    assert house.engine.executions == []


async def test_a_service_that_never_listens_is_not_waited_for(house, port, monkeypatch):
    monkeypatch.setattr(companions, "READY_SECONDS", 0.3)
    deaf = web(port, argv=("sleep", "60"))
    began = time.monotonic()
    async with house.session() as session:
        with pytest.raises(StalledError, match=f"nothing listens on its port {port}"):
            await session.attempt(house.request("true", services=(deaf,)), Page())
        assert time.monotonic() - began < 5
        assert (await session.attempt(house.request("true"), Page())).exit_code == 0


async def test_a_step_ends_with_a_service_that_dies_meanwhile(house):
    dying = web(None, argv=("sh", "-c", "sleep 0.3; exit 9"), ready_port=None)
    async with house.session() as session:
        outcome = await session.attempt(house.request("sleep 60", services=(dying,)), Page())
    assert (outcome.verdict, outcome.reason) == (Verdict.STALLED, "ServiceEnded")
    assert "exit code: 9" in outcome.error


async def test_cancelling_an_attempt_ends_its_services(house, port):
    async with house.session() as session:
        request = house.request("echo up; sleep 60", services=(web(port),))
        task = asyncio.create_task(session.attempt(request, page := Page()))
        await until(lambda: page.written["stdout"] == b"up\n")
        task.cancel()
        await asyncio.wait([task])
        assert all(one.over for one in house.engine.services.values())


async def test_a_services_image_is_resolved_and_recorded_as_any(house, port):
    async with house.session() as session:
        request = house.request("true", services=(web(port, image="postgres:16"),))
        await session.attempt(request, Page())
        assert session.versions["image:postgres:16"].startswith("docker.io/postgres:16@sha256:")


async def test_a_services_image_that_cannot_be_pulled_is_the_attempts_error(house, port):
    house.engine.refusals["docker.io/gone"] = "manifest unknown"
    async with house.session() as session:
        request = house.request("true", services=(web(port, image="gone"),))
        outcome = await session.attempt(request, Page())
    assert (outcome.verdict, outcome.reason) == (Verdict.STALLED, "ImageNotFound")


async def test_a_cache_volume_is_named_by_scope_and_key_and_outlives_its_attempt(house):
    async with house.session() as session:
        for scope, key in (("s", "k"), ("s", "k"), ("t", "k"), ("s", "l")):
            cache = CacheMount(key=key, path="c", scope=scope)
            await session.attempt(
                house.request("cat c/f 2>/dev/null; echo 1 >> c/f", caches=(cache,)), page := Page()
            )
            expected = b"1\n" if len(house.engine.executions) == 2 else b""
            assert page.written["stdout"] == expected
    (mounted,) = house.engine.executions[0].args("withMountedCache")
    name = mounted["cache"].calls[0][1]["key"]
    assert (mounted["path"], mounted.get("sharing", "SHARED")) == ("/work/c", "SHARED")
    assert name == f"rondel-{CacheMount(key='k', path='elsewhere', scope='s').identity}"


@pytest.mark.parametrize("sharing", [LOCKED, PRIVATE])
async def test_locked_caches_are_used_one_after_the_other(house, sharing):
    cache = CacheMount(key="k", path="/var/c", sharing=sharing)
    add = "n=$(cat ../var/c/n 2>/dev/null || echo 0); sleep 0.1; echo $((n + 1)) > ../var/c/n; cat ../var/c/n"
    async with house.session() as session:
        pages = [Page() for _ in range(3)]
        requests = [house.request(add, caches=(cache,)) for _ in pages]
        await asyncio.gather(*map(session.attempt, requests, pages))
    assert sorted(page.written["stdout"] for page in pages) == [b"1\n", b"2\n", b"3\n"]
    (mounted,) = house.engine.executions[0].args("withMountedCache")
    assert (mounted["path"], mounted["sharing"]) == ("/var/c", sharing.name)


async def test_nothing_is_collected_from_a_cache(house):
    cache = CacheMount(key="k", path="out/c")
    async with house.session() as session:
        request = house.request(
            "echo 1 > out/c/f; echo 2 > out/g",
            caches=(cache,),
            collect={"out": "out", "out/c/f": "out/c/f", "out/c": "out/c"},
        )
        outcome = await session.attempt(request, Page())
    assert set(outcome.collected) == {"out"}
    assert sorted(path.name for path in outcome.collected["out"].rglob("*")) == ["c", "g"]


async def test_the_steps_user_owns_its_workspace_and_what_is_made_for_it(house, tmp_path):
    (tmp_path / "one").write_text("1")
    async with house.session() as session:
        request = house.request(
            "pwd",
            user="1234",
            workdir="deep/er",
            mounts=(Placement(source=tmp_path / "one", path="one"),),
            caches=(CacheMount(key="k", path="of/mine/c"),),
        )
        await session.attempt(request, page := Page())
    (made,) = house.engine.executions
    assert made.args("withUser") == [{"name": "1234"}]
    files = made.args("withMountedDirectory")[-1]
    assert (files["path"], files["owner"]) == ("/work", "1234")
    assert [args["path"] for args in files["source"].args("withNewDirectory")] == [
        "deep/er",
        "of/mine",
    ]
    assert made.args("withMountedCache")[0]["owner"] == "1234"
    assert Path(page.written["stdout"].decode().strip()).name == "er"


async def test_every_container_needs_an_image_and_nothing_else_does(tmp_path):
    def refusal(*steps):
        return DaggerExecutor.refusal(
            object.__new__(DaggerExecutor), Workflow(name="w", steps=steps)
        )

    call = ModuleCall(ref="github.com/a/b", version="0" * 40, call="check")
    assert refusal(Step(name="page", alert="ops"), Step(name="m", module=call)) is None
    assert "step 'a' names no image" in refusal(Step(name="a", script="true"))[1]
    bare = Step(name="a", script="true", image="i", services=(Service(name="db", script="x"),))
    assert "service 'db' of step 'a' names no image" in refusal(bare)[1]
