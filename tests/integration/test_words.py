"""Words that wait in a real store, told to a far side that takes them, refuses, is slow or down."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import unquote

import pytest

from controller.clock import SystemClock
from controller.errors import StalledError, TransientError
from controller.model.changes import (
    EndTroubles,
    PutCommitStatus,
    PutTrouble,
    PutWord,
    RecordEvent,
    Together,
    Unless,
)
from controller.model.run import Event
from controller.model.settings import Alert, SecretRef, Statuses
from controller.model.word import CommitState, CommitStatus, Occasion
from controller.notify import alerts as bell
from controller.notify.message import NAMED, message
from controller.notify.pace import Bucket, Pace
from controller.notify.postman import Postman
from controller.notify.rounds import AlertRound, ForgeRound
from controller.reconcile.alerting import word
from controller.secrets import ConfiguredSecrets
from controller.store import Store
from controller.store.outbox import Outbox
from tests.far_side import Answer, FarSide

# Of one of apprise's plugins, met when the first address is looked at.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

CLOCK = SystemClock()
COMMIT = "a" * 40
TOKEN = "t0p-secret-token"
QUICK = Pace(gather=0.05, refill=0.2, first=0.02, most=0.1, limit=5.0, poll=0.05)
PATIENCE = 20.0


@pytest.fixture
def far():
    made = FarSide()
    yield made
    made.stop()


class Desk:
    """A store, its outbox, and a postman who knows one alert and one forge."""

    def __init__(self, store, folder, far, pace, kind) -> None:
        self.store, self.outbox, self.far = store, Outbox(store), far
        (folder / "url").write_text(f"json://127.0.0.1:{far.port}/{TOKEN}")
        (folder / "token").write_text(TOKEN)
        names = ("url", "token")
        self.secrets = ConfiguredSecrets(
            {name: SecretRef(name=name, file=str(folder / name)) for name in names}
        )
        self.alerts = {"ops": Alert(name="ops", secret="url", sources=("main",))}
        self.place: Statuses | None = Statuses(
            type=kind, secret="token", api=f"{far.url}/api", repository="acme/ops"
        )
        self.pace = pace
        self.buckets: dict[str, Bucket] = {}
        self.postman = Postman(self.outbox, alert=self.alert, forge=self.forge, pace=pace)

    def alert(self, name):
        return AlertRound(
            name,
            alert=lambda: self.alerts.get(name),
            outbox=self.outbox,
            secrets=self.secrets,
            bucket=self.buckets.setdefault(name, Bucket(self.pace)),
            pace=self.pace,
            clock=CLOCK,
        )

    def forge(self, source):
        return ForgeRound(
            source,
            place=lambda: self.place,
            proxy=None,
            outbox=self.outbox,
            secrets=self.secrets,
            pace=self.pace,
            clock=CLOCK,
        )

    async def put(self, *words, at=None):
        at = at or CLOCK.now()
        await self.store.record(
            *(
                PutWord(word=word("ops", Occasion.FAILED, "main", one, text="why", at=at))
                for one in words
            )
        )

    async def say(self, state, workflow="", text="", **fields):
        at = fields.pop("at", None) or CLOCK.now()
        status = CommitStatus(
            source="main", commit=COMMIT, workflow=workflow, state=state, text=text, at=at
        )
        [applied] = await self.store.record(PutCommitStatus(status=status, **fields))
        return applied

    async def told(self):
        """Return when nothing waits any more."""
        async with asyncio.timeout(PATIENCE):
            while await self.outbox.waiting() != ([], []):
                await asyncio.sleep(0.01)

    async def events(self, reason):
        found = await self.store.read(lambda reader: reader.events())
        return [one for one in found if one.reason == reason]


@asynccontextmanager
async def desk(tmp_path, far, *, pace=QUICK, kind="gitea", running=True):
    store = await Store.open(tmp_path / "state", clock=CLOCK)
    made = Desk(store, tmp_path, far, pace, kind)
    task = asyncio.create_task(made.postman.run()) if running else None
    try:
        yield made
    finally:
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await store.close()


# Alerts.


async def test_a_word_is_sent_and_forgotten(tmp_path, far):
    async with desk(tmp_path, far) as post:
        await post.put("nightly")
        await post.told()
        [taken] = far.taken
        assert taken.path == f"/{TOKEN}"
        assert taken.body["title"] == "Failed: main/nightly"
        assert taken.body["message"] == "why"


async def test_a_burst_is_one_message_that_counts_and_names(tmp_path, far):
    async with desk(tmp_path, far) as post:
        names = [f"w{number:03}" for number in range(NAMED + 5)]
        await post.put(*names)
        await post.told()
        [taken] = far.taken
        assert taken.body["title"] == f"{NAMED + 5} alerts: {NAMED + 5} Failed"
        assert "Failed: main/w000: why" in taken.body["message"]
        assert taken.body["message"].endswith("and 5 more: rondel get events")


async def test_what_comes_faster_than_the_pace_is_gathered(tmp_path, far):
    pace = Pace(gather=0.0, burst=2, refill=2.0, poll=0.02)
    async with desk(tmp_path, far, pace=pace) as post:
        for number in range(6):
            await post.put(f"w{number}")
            while len(far.tried) < min(number + 1, 2):
                await asyncio.sleep(0.01)
        await post.told()
        assert far.titles[:2] == ["Failed: main/w0", "Failed: main/w1"]
        assert far.titles[2:] == ["4 alerts: 4 Failed"]


async def test_a_far_side_that_fails_is_told_again_until_it_takes_it(tmp_path, far):
    answers = iter([Answer(500), Answer(429), Answer(403)])
    far.answer = lambda _: next(answers, Answer(200))
    async with desk(tmp_path, far) as post:
        await post.put("nightly")
        await post.told()
        assert (len(far.tried), len(far.taken)) == (4, 1)
        assert await post.events("AlertGivenUp") == []


async def test_a_word_that_nobody_takes_is_given_up_in_the_end_with_an_event(tmp_path, far):
    far.stop()
    async with desk(tmp_path, far) as post:
        await post.put("nightly", at=CLOCK.now() - post.pace.keep - timedelta(seconds=1))
        await post.told()
        [event] = await post.events("AlertGivenUp")
        assert (event.source, event.workflow) == ("main", "nightly")
        assert event.message.startswith("alert 'ops' was not told of Failed: nobody took it")


async def test_words_for_an_alert_that_left_the_configuration_are_given_up(tmp_path, far):
    async with desk(tmp_path, far, running=False) as post:
        post.alerts.clear()
        await post.put("nightly")
        task = asyncio.create_task(post.postman.run())
        await post.told()
        task.cancel()
        await asyncio.wait([task])
        [event] = await post.events("AlertGivenUp")
        assert "no such alert any more" in event.message
        assert far.tried == []


async def test_an_alert_that_is_slow_holds_up_no_other(tmp_path, far):
    far.answer = lambda taken: Answer(after_seconds=2.0 if taken.path == f"/{TOKEN}" else 0.0)
    (tmp_path / "other").write_text(f"json://127.0.0.1:{far.port}/quick")
    async with desk(tmp_path, far, running=False) as post:
        post.secrets.use(
            {
                name: SecretRef(name=name, file=str(tmp_path / name))
                for name in ("url", "token", "other")
            }
        )
        post.alerts["quick"] = Alert(name="quick", secret="other")
        at = CLOCK.now()
        await post.put("nightly")
        quick = word("quick", Occasion.FAILED, "main", "nightly", text="", at=at)
        await post.store.record(PutWord(word=quick))
        task = asyncio.create_task(post.postman.run())
        await post.told()
        task.cancel()
        await asyncio.wait([task])
        assert [one.path for one in far.taken] == ["/quick", f"/{TOKEN}"]


async def test_an_address_that_is_none_says_so_without_showing_it(caplog):
    shown = message([word("ops", Occasion.FAILED, "m", "w", text="", at=CLOCK.now())])
    with pytest.raises(StalledError) as problem:
        await bell.send("nonsense-with-a-token", shown, limit=5)
    assert "nonsense" not in str(problem.value)
    with pytest.raises(TransientError) as failure:
        await bell.send(f"json://127.0.0.1:1/{TOKEN}", shown, limit=5)
    assert TOKEN not in str(failure.value)
    assert TOKEN not in caplog.text
    assert "nonsense" not in caplog.text


# What is wrong is told once: the store's part.


async def test_a_state_is_told_once_until_it_changes(tmp_path, far):
    async with desk(tmp_path, far, running=False) as post:

        def trouble(state):
            at = CLOCK.now()
            told = word("ops", Occasion.FAILED, "main", "w", text=state, at=at)
            return PutTrouble(
                source="main", workflow="w", subject="runs", state=state, at=at, words=(told,)
            )

        def end():
            told = word("ops", Occasion.RECOVERED, "main", "w", text="", at=CLOCK.now())
            return EndTroubles(source="main", workflow="w", subjects=("runs",), words=(told,))

        changes = [end(), trouble("Failed"), trouble("Failed"), trouble("Error"), end(), end()]
        applied = [(await post.store.record(one))[0] for one in changes]
        assert applied == [False, True, False, True, True, False]
        kept = [one.occasion for one in await post.outbox.words("ops", 10)]
        assert kept == [Occasion.FAILED, Occasion.FAILED, Occasion.RECOVERED]


async def test_what_stands_beside_a_change_is_written_with_it_or_not_at_all(tmp_path, far):
    async with desk(tmp_path, far, running=False) as post:
        seen = RecordEvent(event=Event(at=CLOCK.now(), reason="Seen"))
        known = PutWord(word=word("ops", Occasion.HOOK, "m", "w", text="", at=CLOCK.now()))
        assert await post.store.record(Together(change=known, beside=(seen,))) == (True,)
        assert await post.store.record(Together(change=known, beside=(seen,))) == (False,)
        assert len(await post.events("Seen")) == 1


# Commit statuses.


REPOS = f"/api/repos/acme/ops/statuses/{COMMIT}"


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("github", (REPOS, "authorization", f"Bearer {TOKEN}", "context", "failure")),
        ("gitea", (REPOS, "authorization", f"token {TOKEN}", "context", "failure")),
        (
            "gitlab",
            (f"/api/projects/acme/ops/statuses/{COMMIT}", "private-token", TOKEN, "name", "failed"),
        ),
    ],
)
async def test_each_forge_is_told_in_its_own_words(tmp_path, far, kind, told):
    path, header, token, name, failed = told
    async with desk(tmp_path, far, kind=kind) as post:
        await post.say(CommitState.SUCCESS)
        await post.say(CommitState.FAILURE, "nightly", "ExitCode: exit code 3")
        await post.told()
        first = next(one for one in far.taken if one.body[name] == "rondel/main/nightly")
        assert unquote(first.path) == path
        if kind == "gitlab":
            assert "/projects/acme%2Fops/" in first.path
        assert first.headers[header] == token
        assert first.body["state"] == failed
        assert first.body["description"] == "ExitCode: exit code 3"
        assert far.states("rondel/main")[-1] == failed


async def test_only_the_newest_state_is_told_and_nothing_twice(tmp_path, far):
    async with desk(tmp_path, far, running=False) as post:
        for state in (CommitState.PENDING, CommitState.FAILURE, CommitState.PENDING):
            await post.say(state, "nightly")
        await post.say(CommitState.SUCCESS, "nightly")
        assert not await post.say(CommitState.SUCCESS, "nightly")
        task = asyncio.create_task(post.postman.run())
        await post.told()
        assert far.states("rondel/main/nightly") == ["success"]
        await post.say(CommitState.PENDING, "nightly")
        await post.say(CommitState.SUCCESS, "nightly")  # perhaps before it was told
        await post.told()
        task.cancel()
        await asyncio.wait([task])
        assert far.states("rondel/main/nightly")[-1] == "success"


async def test_what_changes_while_it_is_told_is_told_after_it(tmp_path, far):
    far.answer = lambda _: Answer(after_seconds=0.3)
    async with desk(tmp_path, far) as post:
        await post.say(CommitState.PENDING, "nightly")
        while not far.tried:
            await asyncio.sleep(0.01)
        await post.say(CommitState.SUCCESS, "nightly")
        await post.told()
        assert far.states("rondel/main/nightly") == ["pending", "success"]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500),
        Answer(503, {"Retry-After": "1"}),
        Answer(429),
        Answer(429, {"Retry-After": "1"}),
        Answer(403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}),
        Answer(403, {"Retry-After": "1"}),
    ],
    ids=["broken", "soon", "limited", "limited-for", "spent", "slower"],
)
async def test_a_forge_that_asks_for_time_gets_it(tmp_path, far, answer):
    answers = iter([answer])
    far.answer = lambda _: next(answers, Answer())
    async with desk(tmp_path, far) as post:
        await post.say(CommitState.SUCCESS)
        await post.told()
        assert (len(far.tried), len(far.taken)) == (2, 1)
        assert await post.events("StatusGivenUp") == []


@pytest.mark.parametrize("code", [301, 400, 401, 403, 404, 422])
async def test_a_forge_that_refuses_is_not_asked_again(tmp_path, far, code):
    far.answer = lambda _: Answer(code, body={"message": f"no, {TOKEN} may not"})
    async with desk(tmp_path, far) as post:
        await post.say(CommitState.SUCCESS)
        await post.told()
        assert len(far.tried) == 1
        [event] = await post.events("StatusGivenUp")
        assert event.message.endswith(f"it answered {code}: no, *** may not")
        assert event.source == "main"


async def test_gitlab_knows_a_state_that_it_has(tmp_path, far):
    said = {"message": "Cannot transition status via :enqueue from :pending"}
    far.answer = lambda _: Answer(400, body=said)
    async with desk(tmp_path, far, kind="gitlab") as post:
        await post.say(CommitState.PENDING)
        await post.told()
        assert await post.events("StatusGivenUp") == []


async def test_a_forge_that_is_down_or_slow_is_told_once_it_is_back(tmp_path, far):
    far.stop()
    async with desk(tmp_path, far, pace=Pace(first=0.02, most=0.1, limit=0.3, poll=0.05)) as post:
        await post.say(CommitState.SUCCESS)
        await asyncio.sleep(0.2)
        answers = iter([Answer(after_seconds=1.0)])
        far.answer = lambda _: next(answers, Answer())
        far.start()
        await post.told()
        assert far.states("rondel/main")[-1] == "success"
        assert await post.events("StatusGivenUp") == []


async def test_a_status_that_is_too_old_is_given_up_with_an_event(tmp_path, far):
    async with desk(tmp_path, far) as post:
        old = CLOCK.now() - post.pace.keep - timedelta(seconds=1)
        await post.say(CommitState.SUCCESS, at=old)
        await post.told()
        [event] = await post.events("StatusGivenUp")
        assert "nobody took it within" in event.message
        assert far.tried == []


async def test_a_source_without_statuses_any_more_tells_nothing(tmp_path, far):
    async with desk(tmp_path, far, running=False) as post:
        post.place = None
        await post.say(CommitState.SUCCESS)
        task = asyncio.create_task(post.postman.run())
        await post.told()
        task.cancel()
        await asyncio.wait([task])
        assert far.tried == []


async def test_words_that_must_not_find_a_status_or_must(tmp_path, far):
    async with desk(tmp_path, far, running=False) as post:
        assert not await post.say(CommitState.SUCCESS, "w", unless=Unless.UNKNOWN)
        assert await post.say(CommitState.PENDING, "w", unless=Unless.KNOWN)
        assert not await post.say(CommitState.FAILURE, "w", unless=Unless.KNOWN)
        assert await post.say(CommitState.SUCCESS, "w", unless=Unless.UNKNOWN)
        [status, own] = await post.outbox.statuses("main", 9)
        assert (status.status.state, status.number) == (CommitState.SUCCESS, 2)
        assert (own.status.workflow, own.status.state) == ("", CommitState.SUCCESS)


async def test_states_of_commits_that_were_told_long_ago_are_forgotten(tmp_path, far):
    from controller.store import words

    async with desk(tmp_path, far, running=False) as post:
        await post.say(CommitState.SUCCESS, "w")
        [status, own] = await post.outbox.statuses("main", 9)
        later = CLOCK.now() + words.KEPT + timedelta(seconds=1)
        assert await post.store.write(words.drop_old(later)) == 0, "they wait"
        for one in (status, own):
            await post.outbox.note_said(one, "Success: ")
        assert await post.store.write(words.drop_old(CLOCK.now())) == 0
        assert await post.store.write(words.drop_old(later)) == 2
