"""A day of minutes in compressed time: every slot once, and nothing that grows for ever."""

from controller.model.run import Phase
from controller.model.workflow import History
from tests.soak import HOUSEKEEPING, Soak
from tests.store_lives import NOON

OWN = History(successful=5, failed=3)


async def test_a_day_of_minutes_answers_every_slot_once_and_keeps_what_its_limits_say(tmp_path):
    soak = Soak(tmp_path, {"own": OWN, "usual": History()}, NOON)
    await soak.open()
    try:
        await soak.day()
        assert soak.created == soak.slots()
        assert min(soak.phases[one] for one in (Phase.SUCCEEDED, Phase.FAILED, Phase.SKIPPED)) > 100
        runs = await soak.store.read(lambda reader: reader.runs())
        rows = await soak.rows()
    finally:
        await soak.close()
    kept = {name: [run for run in runs if run.workflow == name] for name in soak.workflows}
    # What came since the last housekeeping is there besides.
    assert 5 + 3 + 20 <= len(kept["own"]) <= 5 + 3 + 20 + HOUSEKEEPING
    assert 10 + 20 + 20 <= len(kept["usual"]) <= 10 + 20 + 20 + HOUSEKEEPING
    assert rows["step_run"] <= rows["run"]
    assert rows["attempt"] <= rows["run"]
    assert rows["spec"] == 1
    assert rows["instance"] == 1
    assert rows["history_limit"] == 1
