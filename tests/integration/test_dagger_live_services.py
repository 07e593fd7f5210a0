"""Services, cache volumes and users on a live engine: skipped where there is none."""

import asyncio
import time
from datetime import timedelta
from functools import partial

import pytest

from controller import ids
from controller.clock import SystemClock
from controller.execute import companions
from controller.execute.dagger import DaggerExecutor
from controller.model.run import Phase
from controller.model.settings import DaggerSettings
from controller.model.workflow import (
    Artifact,
    CacheMode,
    CachePolicy,
    CacheSharing,
    CacheVolume,
    Mount,
    Output,
    Service,
)
from controller.secrets import ConfiguredSecrets
from tests import engine_lab
from tests.engine_lab import workflow
from tests.integration import test_dagger_live
from tests.integration.test_local_steps import alive

IMAGE = test_dagger_live.IMAGE
pytestmark = test_dagger_live.pytestmark

step = partial(engine_lab.step, image=IMAGE)
SERVE = "mkdir -p /w; echo content > /w/f; exec httpd -f -p 8080 -h /w"
SHARED, LOCKED = CacheSharing.SHARED, CacheSharing.LOCKED


@pytest.fixture
async def rig(tmp_path):
    executor = DaggerExecutor(
        DaggerSettings(),
        secrets=ConfiguredSecrets({}),
        state_dir=tmp_path / "state",
        clock=SystemClock(),
    )
    async with engine_lab.lab(tmp_path, executor=executor) as found:
        yield found


def web(script=SERVE, port=8080, **words):
    return Service(name="my-web", image=IMAGE, script=script, ready_port=port, **words)


def cache(path="c", key=None, sharing=SHARED):
    return CacheVolume(key=key or ids.nonce(), path=path, sharing=sharing)


async def test_a_step_reaches_its_service_by_name_and_both_are_heard(rig):
    script = "echo from the service; echo RONDEL_STEP=$RONDEL_STEP MINE=$MINE; pwd; " + SERVE
    fetch = (
        'wget -qO- "http://$MY_WEB_HOST:8080/f"; wget -qO- http://my-web:8080/f; echo $MY_WEB_HOST'
    )
    made = step("a", fetch, services=(web(script, env={"MINE": 1}),))
    story = await rig.execute(workflow(made))
    assert story.told() == {"a": "Succeeded"}, story.steps["a"].error
    lines = {(one["stream"], one["line"]) for one in await story.log("a")}
    assert lines == {
        ("stdout", "content"),
        ("stdout", "my-web"),
        ("stderr", "[my-web] from the service"),
        ("stderr", "[my-web] RONDEL_STEP=a MINE=1"),
        ("stderr", "[my-web] /work"),
    }


async def test_the_images_own_command_is_a_service(rig):
    silent = Service(name="sh", image=IMAGE)  # a shell without input: it ends at once
    story = await rig.execute(workflow(step("a", "sleep 5", services=(silent,))))
    assert story.told() == {"a": "Error/ServiceEnded"}


async def test_each_attempt_has_services_of_its_own_also_when_it_is_cached(rig):
    script = "cat /proc/sys/kernel/random/uuid > /id; exec httpd -f -p 8080 -h /"
    policy = CachePolicy(mode=CacheMode.AUTO)
    steps = [
        step(
            name,
            "wget -qO id http://my-web:8080/id",
            services=(web(script),),
            outputs=(Output(name="id", path="id"),),
            cache=policy,
        )
        for name in ("a", "b")
    ]
    story = await rig.execute(workflow(*steps))
    assert story.phase is Phase.SUCCEEDED, story.told()
    assert len({one.outputs["id"] for one in story.steps.values()}) == 2


async def test_a_service_that_dies_before_it_is_ready_is_an_error_with_its_last_words(rig):
    dying = web("echo no space; echo bad >&2; exit 7")
    story = await rig.execute(workflow(step("a", services=(dying,))))
    assert story.told() == {"a": "Error/ServiceNotReady"}
    error = story.steps["a"].error
    assert "service 'my-web': it ended with exit code 7 before it was ready" in error
    assert "no space" in error
    assert "bad" in error


async def test_a_service_that_never_listens_is_an_error_within_the_bound(rig, monkeypatch):
    monkeypatch.setattr(companions, "READY_SECONDS", 3.0)
    began = time.monotonic()
    story = await rig.execute(
        workflow(step("a", services=(web("echo deaf; exec sleep 1000"),)), step("b", "echo on"))
    )
    assert story.told() == {"a": "Error/ServiceNotReady", "b": "Succeeded"}
    assert "nothing listens on its port 8080" in story.steps["a"].error
    assert "[my-web] deaf" in story.steps["a"].error
    assert time.monotonic() - began < 30


async def test_a_step_ends_with_a_service_that_dies_meanwhile(rig):
    dying = web("httpd -p 8080 -h /; sleep 2; exit 9")
    began = time.monotonic()
    story = await rig.execute(workflow(step("a", "sleep 60", services=(dying,))))
    assert story.told() == {"a": "Error/ServiceEnded"}
    assert "exit code: 9" in story.steps["a"].error
    assert time.monotonic() - began < 30


async def test_a_failing_step_keeps_its_code_its_files_and_its_services_lines(rig):
    made = step(
        "a",
        "sleep 1; echo 5 > n; exit 3",
        services=(web("echo first; " + SERVE),),
        outputs=(Output(name="n", path="n"),),
    )
    story = await rig.execute(workflow(made))
    assert story.told() == {"a": "Failed/ExitCode"}
    assert (story.steps["a"].exit_code, story.steps["a"].outputs) == (3, {"n": "5"})
    assert "[my-web] first" in await story.text("a")


async def test_a_services_process_ends_with_its_attempt(rig):
    mark = ids.nonce()
    await rig.execute(workflow(step("a", "true", services=(web(f"true {mark}; {SERVE}"),))))
    assert not alive(mark)


async def test_a_timed_out_step_is_gone_with_its_service(rig):
    slow = step("a", "sleep 60", timeout=timedelta(seconds=4), services=(web(),))
    began = time.monotonic()
    story = await rig.execute(workflow(slow))
    assert story.told() == {"a": "Failed/Timeout"}
    assert time.monotonic() - began < 30


async def test_an_image_of_a_service_that_does_not_exist_is_an_error_for_a_person(rig):
    missing = Service(name="db", image=f"{IMAGE}-nope", ready_port=80)
    story = await rig.execute(workflow(step("a", services=(missing,))))
    assert story.told() == {"a": "Error/ImageNotFound"}


async def test_a_cache_volume_outlives_a_failure_and_its_run(rig):
    one = cache("deep/er")
    await rig.execute(workflow(step("a", "echo 1 > deep/er/f; exit 1", caches=(one,))))
    story = await rig.execute(workflow(step("a", "cat deep/er/f", caches=(one,))))
    assert await story.text("a") == "1"
    other = await rig.execute(workflow(step("a", "ls deep/er", caches=(one,))), source="other")
    assert await other.text("a") == ""


async def test_a_cache_is_no_part_of_outputs_and_artifacts(rig):
    made = step(
        "a",
        "echo 1 > out/c/f; echo 2 > out/g",
        caches=(cache("out/c"),),
        artifacts=(Artifact(name="all", path="out"),),
        outputs=(Output(name="o", path="out/c/f", default="none"),),
    )
    use = step("b", "find x | sort", needs=("a",), mounts=(Mount(path="x", artifact="a.all"),))
    story = await rig.execute(workflow(made, use))
    assert story.phase is Phase.SUCCEEDED, story.told()
    assert story.steps["a"].outputs == {"o": "none"}
    assert (await story.text("b")).split() == ["x", "x/c", "x/g"]


async def test_an_absolute_cache_path_stays_where_it_is(rig):
    one = cache("/root/.cache/pip")
    made = workflow(
        step("a", "echo 1 >> /root/.cache/pip/f; cat /root/.cache/pip/f", caches=(one,))
    )
    texts = [await (await rig.execute(made)).text("a") for _ in range(2)]
    assert texts == ["1", "1\n1"]


async def test_locked_steps_take_turns_and_shared_ones_do_not(rig):
    one = cache(sharing=LOCKED)
    add = "n=$(cat c/n 2>/dev/null || echo 0); sleep 0.5; echo $((n + 1)) > c/n"
    steps = [step(f"s{n}", add, caches=(one,)) for n in range(3)]
    show = step("z", "cat c/n", caches=(one,), needs=tuple(s.name for s in steps))
    story = await rig.execute(workflow(*steps, show))
    assert await story.text("z") == "3"
    meet, both = "touch c/{0}; while ! test -e c/{1}; do sleep 0.1; done", cache()
    async with asyncio.timeout(60):
        story = await rig.execute(
            workflow(
                step("a", meet.format("a", "b"), caches=(both,)),
                step("b", meet.format("b", "a"), caches=(both,)),
            )
        )
    assert story.phase is Phase.SUCCEEDED


async def test_a_step_runs_as_the_user_it_names_and_owns_its_workspace_and_caches(rig, tmp_path):
    made = step(
        "a",
        "id -u; touch f c/f deep/g; ls -ln f | awk '{print $3}'",
        user="1234",
        workdir="sub",
        caches=(cache("sub/c"), cache("sub/deep")),
        outputs=(Output(name="f", path="f"),),
    )
    story = await rig.execute(workflow(made))
    assert story.told() == {"a": "Succeeded"}, await story.text("a")
    assert (await story.text("a")).split() == ["1234", "1234"]


async def test_a_user_that_the_image_does_not_know_is_an_error_for_a_person(rig):
    story = await rig.execute(workflow(step("a", user="nobody-here")))
    assert story.told() == {"a": "Error/UserUnknown"}
    assert len(story.attempts) == 1


async def test_a_service_without_an_image_is_refused_before_anything_runs(rig):
    bare = Service(name="db", script="true")
    story = await rig.execute(workflow(step("a", services=(bare,))))
    assert (story.phase, story.run.reason) == (Phase.ERROR, "ImageMissing")
    assert "service 'db' of step 'a'" in story.run.message
