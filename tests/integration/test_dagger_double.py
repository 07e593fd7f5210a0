"""The dagger executor with the real SDK, an engine's double and a command that speaks for it."""

import asyncio
import os
import signal
import stat
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controller import ids
from controller.clock import SystemClock
from controller.errors import StalledError, TransientError
from controller.execute.dagger import DaggerExecutor, check, command, executor, watch
from controller.execute.dagger.folder import PREFIX, PrivateFolder, sweep
from controller.execute.dagger.said import LEFT_OUT
from controller.execute.ports import AttemptRequest, Placement, SecretValue, Verdict
from controller.model.run import Run, Trigger
from controller.model.settings import DaggerSettings, Registry
from controller.model.workflow import Step, Workflow
from tests.dagger_double.cli import Cli
from tests.dagger_double.engine import Engine

WORKFLOW = Workflow(name="w", steps=(Step(name="a", script="true", image="busybox"),))


class Page:
    """An Output that keeps what it is given."""

    def __init__(self):
        self.written = {"stdout": b"", "stderr": b""}
        self.notes: list[str] = []
        self.wrote = asyncio.Event()

    def write(self, stream, data):
        self.written[stream] += data
        self.wrote.set()

    def note(self, text):
        self.notes.append(text)


class Passwords:
    async def operator(self, name):
        return f"the password {name}"


class House:
    """An executor on a double, and what tests need around it."""

    def __init__(self, tmp_path, engine, port):
        self.engine = engine
        self.cli = Cli(tmp_path, port)
        self.memory = tmp_path / "memory"
        self.memory.mkdir()
        self.tmp_path = tmp_path

    def executor(self, **settings):
        return DaggerExecutor(
            DaggerSettings(cli=str(self.cli.path), **settings),
            secrets=Passwords(),
            state_dir=self.tmp_path / "state",
            clock=SystemClock(),
        )

    @asynccontextmanager
    async def session(self, *, source="test", **settings):
        executor = self.executor(**settings)
        await executor.start()
        try:
            yield await executor.open(a_run(source), WORKFLOW)
        finally:
            await executor.stop()

    def request(self, script, **fields):
        nonce = ids.nonce()
        staging = self.tmp_path / "staging" / nonce
        staging.mkdir(parents=True)
        fields.setdefault("image", "busybox")
        return AttemptRequest(
            run="r",
            step="s",
            index=0,
            number=1,
            nonce=nonce,
            argv=("sh", "-c", script),
            staging=staging,
            **fields,
        )

    @property
    def folders(self):
        return list(self.memory.glob(f"{PREFIX}*"))

    def query(self, word):
        return [query for query in self.engine.requests if word in query]


def a_run(source="test"):
    clock = SystemClock()
    return Run(
        id="r",
        source=source,
        workflow="w",
        trigger=Trigger.MANUAL,
        identity="i",
        created_at=clock.now(),
    )


@pytest.fixture
async def house(tmp_path, monkeypatch):
    engine = Engine()
    made = House(tmp_path, engine, await engine.start())
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(made.memory))
    monkeypatch.setenv("A_TOKEN_OF_THE_DAEMON", "not for the command")
    yield made
    await engine.stop()


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return True


def once(condition):
    """Return a condition that holds the first time only."""
    seen = []

    def first(query):
        if condition(query):
            seen.append(query)
            return len(seen) == 1
        return False

    return first


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


# --- a step --------------------------------------------------------------------------------------


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


# --- the engine's cache --------------------------------------------------------------------------


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


# --- secrets, images, logins ---------------------------------------------------------------------


async def test_a_secret_goes_by_a_private_file_and_is_keyed_by_its_name(house):
    secrets = (
        SecretValue(identity="test/token@1", value="s3cr3t-value", name="TOKEN"),
        SecretValue(identity="test/token@1", value="s3cr3t-value", file="t.txt"),
    )
    async with house.session() as session:
        request = house.request('test "$TOKEN" = "$(cat t.txt)" && echo same', secrets=secrets)
        outcome = await session.attempt(request, page := Page())
        (folder,) = {Path(uri(made)).parent for made in house.engine.executions}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert all(
            stat.S_IMODE(one.stat().st_mode) == 0o600
            for one in folder.iterdir()
            if one.is_file() and one.suffix
        )
    assert (outcome.exit_code, page.written["stdout"]) == (0, b"same\n")
    sent = "".join(house.engine.requests)
    assert "s3cr3t" not in sent
    assert 'cacheKey: "test/token@1"' in sent
    for pid in house.cli.pids:
        assert "s3cr3t" not in str(house.cli.environment(pid)) + str(house.cli.argv(pid))
    assert not folder.exists()


def uri(made):
    (args,) = made.args("withSecretVariable")
    return args["secret"].calls[0][1]["uri"].removeprefix("file://")


async def test_an_image_is_resolved_once_in_a_run_and_recorded(house):
    async with house.session(default_registry="registry.example.com") as session:
        for _ in range(2):
            await session.attempt(house.request("true"), Page())
        versions = session.versions
    pinned = f"registry.example.com/busybox@sha256:{'0' * 64}"
    assert versions["image:busybox"] == pinned
    assert len(house.query("imageRef")) == 1
    assert [made.args("from")[-1]["address"] for made in house.engine.executions] == [pinned] * 2


async def test_versions_of_engine_command_and_sdk_are_recorded(house):
    async with house.session() as session:
        versions = session.versions
    assert versions["dagger-engine"] == versions["dagger-cli"] == "v0.21.7"
    assert versions["dagger-sdk"].startswith("0.21.")


@pytest.mark.parametrize(("source", "sees"), [("test", True), ("other", False)])
async def test_a_login_serves_only_the_sources_it_names(house, source, sees):
    login = Registry(host="docker.io", username="ci", secret="reg", sources=("test",))
    async with house.session(source=source, registries=(login,)) as session:
        await session.attempt(house.request("true"), Page())
    assert bool(house.query("withRegistryAuth")) is sees
    assert ("the password reg" in "".join(house.engine.requests)) is sees


@pytest.mark.parametrize(
    ("words", "verdict", "reason"),
    [
        ("pull access denied: authorization failed", Verdict.STALLED, "LoginFailed"),
        (
            'failed to resolve image "docker.io/no": docker.io/no: not found',
            Verdict.STALLED,
            "ImageNotFound",
        ),
        ("dial tcp: lookup docker.io: no such host", Verdict.TRANSIENT, "RegistryUnavailable"),
    ],
)
async def test_an_image_that_can_not_be_had_is_told_by_its_cause(house, words, verdict, reason):
    house.engine.refusals["docker.io/no"] = words
    async with house.session() as session:
        outcome = await session.attempt(house.request("true", image="no"), Page())
        assert (outcome.verdict, outcome.reason) == (verdict, reason)
        assert (await session.attempt(house.request("true"), Page())).exit_code == 0


# --- what goes wrong -----------------------------------------------------------------------------


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


# --- sessions ------------------------------------------------------------------------------------


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
    monkeypatch.setattr(command, "OPEN_SECONDS", 0.5)
    monkeypatch.setattr(command, "END_SECONDS", 0.2)
    house.cli.behave("exec sleep 300")
    dagger = house.executor()
    with pytest.raises(TransientError) as raised:
        await dagger.open(a_run(), WORKFLOW)
    assert raised.value.reason == "EngineUnavailable"
    await until(lambda: all(gone(one) for one in house.cli.pids))
    await dagger.stop()
    assert house.folders == []


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
