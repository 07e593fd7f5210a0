"""What stands beside changes: only where somebody is told, and never in the way of them."""

from datetime import UTC, datetime
from pathlib import PurePath

from controller.model.changes import CreateRun, FinishRun, PutTrouble, Together
from controller.model.run import Phase, Run, Trigger
from controller.model.settings import Alert, Settings
from controller.observations import Observations
from controller.reconcile import alerting
from controller.words import Words
from tests.store_lives import FixedClock

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = Run(
    id="r1", source="main", workflow="w", trigger=Trigger.MANUAL, identity="x", created_at=NOW
)
FINISH = FinishRun(run="r1", phase=Phase.FAILED, at=NOW)


def words(**alerts):
    settings = Settings(state_dir=PurePath("/state"), alerts=alerts)
    observed = Observations([], [RUN])
    return Words(
        store=None,  # type: ignore[arg-type]  # nothing is read or written
        observations=observed,
        settings=lambda: settings,
        secrets=None,  # type: ignore[arg-type]  # nothing is sent
        clock=FixedClock(NOW),
    )


OPS = Alert(name="ops", secret="url", sources=("main",))


def test_without_anybody_to_tell_changes_are_as_they_were():
    assert words().accompanied([FINISH]) == (FINISH,)


def test_a_failed_run_is_written_together_with_its_word():
    [told] = words(ops=OPS).accompanied([FINISH])
    assert isinstance(told, Together)
    assert told.change is FINISH
    [trouble] = told.beside
    assert isinstance(trouble, PutTrouble)
    assert [word.run for word in trouble.words] == ["r1"]


def test_a_run_that_is_not_observed_tells_nothing():
    other = FinishRun(run="called", phase=Phase.FAILED, at=NOW)
    assert words(ops=OPS).accompanied([other]) == (other,)


def test_a_lost_run_whose_answer_is_created_with_its_end_is_no_alert():
    lost = FinishRun(run="r1", phase=Phase.INTERRUPTED, at=NOW)
    answer = CreateRun(
        run=Run(
            id="r2",
            source="main",
            workflow="w",
            trigger=Trigger.MANUAL,
            identity="y",
            rerun_of="r1",
            created_at=NOW,
        )
    )
    assert words(ops=OPS).accompanied([lost, answer]) == (lost, answer)
    [alone] = words(ops=OPS).accompanied([lost])
    assert isinstance(alone, Together)


def test_a_defect_in_the_words_keeps_no_change_from_being_written(monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(alerting, "of_run", broken)
    assert words(ops=OPS).accompanied([FINISH]) == (FINISH,)
