"""Services beside local steps: real processes, reached at 127.0.0.1, gone with their attempt."""

import asyncio
import os
import socket
import sys
import time
from datetime import timedelta

import pytest

from controller.execute import companions
from controller.model.run import Phase
from controller.model.workflow import Service
from tests.engine_lab import lab, retry, step, workflow
from tests.integration.test_local_steps import alive, gone, until

SERVE = "import http.server as h; h.HTTPServer(('127.0.0.1', {}), h.SimpleHTTPRequestHandler).serve_forever()"
SLOW_SERVE = "import time; time.sleep(0.5); " + SERVE
FETCH = (
    "import os, urllib.request as u; "
    "print(u.urlopen('http://' + os.environ['MY_WEB_HOST'] + ':{}/hello').read().decode())"
)


@pytest.fixture
async def rig(tmp_path):
    async with lab(tmp_path) as found:
        yield found


@pytest.fixture
def port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def python(code, *words):
    return (sys.executable, "-c", code, *words)


def web(port, code=SLOW_SERVE, mark="web", **words):
    return Service(name="my-web", args=python(code.format(port), mark), ready_port=port, **words)


async def test_a_step_starts_when_its_service_listens_and_reaches_it(rig, port):
    serving = Service(
        name="my-web",
        script=f'echo content > hello; exec {sys.executable} -c "{SLOW_SERVE.format(port)}"',
        ready_port=port,
    )
    story = await rig.execute(
        workflow(step("a", args=python(FETCH.format(port)), services=(serving,)))
    )
    assert story.told() == {"a": "Succeeded"}, await story.text("a")
    lines = await story.log("a")
    assert ("stdout", "content") in {(one["stream"], one["line"]) for one in lines}
    assert any(
        one["stream"] == "stderr" and one["line"].startswith("[my-web] 127.0.0.1") for one in lines
    )
    assert not list((rig.state_dir / "work").iterdir())


async def test_a_service_has_an_environment_and_a_workspace_of_its_own(rig, port):
    service = Service(
        name="env",
        script=f'pwd; env; ls -A; echo end; exec {sys.executable} -c "{SERVE.format(port)}"',
        env={"MINE": 1, "NONE": None},
        ready_port=port,
    )
    made = step("a", "pwd; echo x > f", env={"STEPS": "own"}, services=(service,))
    story = await rig.execute(workflow(made))
    said = [
        one["line"].removeprefix("[env] ")
        for one in await story.log("a")
        if one["line"].startswith("[env] ")
    ]
    variables = dict(line.split("=", 1) for line in said if "=" in line)
    assert variables["MINE"] == "1"
    assert variables["RONDEL_STEP"] == "a"
    assert not {"NONE", "STEPS", "ENV_HOST"} & set(variables)
    assert said[0] != (await story.log("a"))[-1]["line"]
    assert said[said.index("end") - 1].split("=")[0] in variables, "its workspace is empty"


async def test_services_end_with_the_step_however_it_ends(rig, port):
    mark = f"mark-{port}"
    for script in ("true", "exit 3"):
        await rig.execute(workflow(step("a", script, services=(web(port, mark=mark),))))
        assert not alive(mark)
    slow = step("a", "sleep 60", timeout=timedelta(seconds=1.5), services=(web(port, mark=mark),))
    story = await rig.execute(workflow(slow))
    assert story.told() == {"a": "Failed/Timeout"}
    assert not alive(mark)


async def test_cancelling_a_run_ends_its_services(rig, port):
    mark = f"mark-{port}"
    run = await rig.claimed()
    made = workflow(step("a", "echo up; sleep 60", services=(web(port, mark=mark),)))
    task = asyncio.create_task(rig.engine.execute(run, made))
    await until(lambda: list((rig.state_dir / "logs").glob(f"{run.id}/*")))
    assert alive(mark)
    rig.engine.cancel(run.id)
    await task
    assert await gone(mark)


async def test_a_service_that_ignores_sigterm_is_killed(rig, port, monkeypatch):
    monkeypatch.setattr("controller.execute.local.process.TERM_GRACE_SECONDS", 0.2)
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SERVE
    mark = f"mark-{port}"
    story = await rig.execute(
        workflow(step("a", "true", services=(web(port, stubborn, mark=mark),)))
    )
    assert story.told() == {"a": "Succeeded"}
    assert not alive(mark)


async def test_a_service_that_dies_before_it_is_ready_is_an_error_with_its_last_words(rig, port):
    dying = Service(name="db", script="echo no space; echo bad >&2; exit 7", ready_port=port)
    story = await rig.execute(workflow(step("a", "echo never", services=(dying,))))
    assert story.told() == {"a": "Error/ServiceNotReady"}
    error = story.steps["a"].error
    assert "service 'db': it ended with exit code 7 before it was ready" in error
    assert "no space" in error
    assert "never" not in {one["line"] for one in await story.log("a")}


async def test_a_service_that_never_listens_is_an_error(rig, port, monkeypatch):
    monkeypatch.setattr(companions, "READY_SECONDS", 0.3)
    deaf = Service(name="db", script=f"echo waiting; sleep 60 # mark-{port}", ready_port=port)
    story = await rig.execute(workflow(step("a", services=(deaf,))))
    assert story.told() == {"a": "Error/ServiceNotReady"}
    assert f"nothing listens on its port {port}" in story.steps["a"].error
    assert "[db] waiting" in story.steps["a"].error
    assert not alive(f"mark-{port}")


async def test_a_service_that_cannot_be_started_is_an_error(rig, port):
    missing = Service(name="db", args=("no-such-command",), ready_port=port)
    story = await rig.execute(workflow(step("a", services=(missing,))))
    assert story.told() == {"a": "Error/ServiceNotReady"}
    assert "no-such-command: No such file" in story.steps["a"].error


async def test_a_step_ends_with_a_service_that_dies_meanwhile(rig):
    dying = Service(name="db", script="sleep 0.3; exit 9")
    began = time.monotonic()
    story = await rig.execute(workflow(step("a", "sleep 60", services=(dying,))))
    assert story.told() == {"a": "Error/ServiceEnded"}
    assert "exit code 9 while the step ran" in story.steps["a"].error
    assert time.monotonic() - began < 20


async def test_an_error_of_a_service_can_be_retried(rig, tmp_path):
    flaky = Service(
        name="db", script=f"test -e {tmp_path}/up || {{ touch {tmp_path}/up; exit 1; }}; sleep 60"
    )
    made = step("a", "sleep 0.5", services=(flaky,), retry=retry(1, policy="OnError"))
    story = await rig.execute(workflow(made))
    assert story.told() == {"a": "Succeeded"}
    assert [one.reason for one in story.attempts] == ["ServiceEnded", ""]


async def test_steps_that_want_one_port_take_turns(rig, port):
    steps = [step(f"s{n}", "sleep 0.2", services=(web(port),)) for n in range(3)]
    story = await rig.execute(workflow(*steps))
    assert story.phase is Phase.SUCCEEDED, story.told()


async def test_a_port_that_somebody_else_holds_is_infrastructure(rig):
    with socket.create_server(("127.0.0.1", 0)) as server:
        story = await rig.execute(workflow(step("a", services=(web(server.getsockname()[1]),))))
    assert story.told() == {"a": "Error/ServicePortTaken"}
    assert len(story.attempts) == 3, "the first and two of the infrastructure's budget"


async def test_two_services_stand_beside_one_step(rig, port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        other = taken.getsockname()[1]
    services = (
        web(port),
        Service(name="b", args=python(SERVE.format(other)), ready_port=other),
    )
    made = step("a", 'echo "$MY_WEB_HOST $B_HOST $OWN"', env={"OWN": "1"}, services=services)
    assert "127.0.0.1 127.0.0.1 1" in await (await rig.execute(workflow(made))).text("a")


async def test_the_steps_own_variable_wins_over_a_services_name(rig, port):
    made = step("a", 'echo "at $MY_WEB_HOST"', env={"MY_WEB_HOST": "me"}, services=(web(port),))
    assert "at me" in await (await rig.execute(workflow(made))).text("a")


async def test_lines_of_step_and_service_are_never_mixed(rig):
    chatty = "i=0; while [ $i -lt 300 ]; do printf abc >&2; printf 'def\\n' >&2; i=$((i+1)); done; "
    service = Service(name="s", script=chatty + "sleep 60")
    story = await rig.execute(workflow(step("a", chatty + "sleep 0.3", services=(service,))))
    assert {one["line"] for one in await story.log("a")} == {"abcdef", "[s] abcdef"}


@pytest.mark.parametrize(
    ("services", "problem"),
    [
        ((Service(name="db", image="postgres:16", ready_port=5432),), "no args or script"),
        (
            (
                Service(name="a", script="true", ready_port=80),
                Service(name="b", script="true", ready_port=80),
            ),
            "2 services want port 80",
        ),
    ],
)
async def test_what_needs_dagger_is_refused_before_anything_runs(rig, services, problem):
    story = await rig.execute(workflow(step("a", services=services), step("b", "true")))
    assert (story.phase, story.run.reason) == (Phase.ERROR, "NeedsDagger")
    assert problem in story.run.message
    assert not story.attempts


@pytest.mark.parametrize("user", [str(os.geteuid()), f"{os.geteuid()}:{os.getegid()}"])
async def test_a_step_may_name_the_user_it_runs_as_anyway(rig, user):
    assert (await rig.execute(workflow(step("a", user=user)))).phase is Phase.SUCCEEDED


@pytest.mark.parametrize("user", ["54321", "no-such-user", f"{os.geteuid()}:54321"])
async def test_a_step_as_another_user_needs_dagger(rig, user):
    story = await rig.execute(workflow(step("a", user=user)))
    assert (story.phase, story.run.reason) == (Phase.ERROR, "NeedsDagger")
