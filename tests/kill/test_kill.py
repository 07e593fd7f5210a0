"""A controller that is killed at any edge of state loses nothing and does nothing twice.

Here a sample, always the same one; `python -m tests.kill --times 500 --seed N` runs as many as
wanted.
"""

import random
from typing import get_args

import pytest

from controller.model.changes import Change
from tests.kill import edges
from tests.kill.__main__ import live, sampled, take_census, told
from tests.kill.harness import Tally

KILLS = 12
SEED = 20780


@pytest.fixture(scope="module")
def chance():
    return random.Random(SEED)  # noqa: S311 - which edges are sampled is no secret


@pytest.fixture(scope="module")
def census(tmp_path_factory, chance):
    return take_census(tmp_path_factory.mktemp("census") / "world", chance)


def without_moment(edge):
    return edge.rpartition(":")[0]


def test_every_change_is_among_the_edges():
    named = {without_moment(edge) for edge in edges.of_changes()}
    assert named == {f"change:{kind.__name__}" for kind in get_args(Change)}


def test_every_protocol_of_the_run_engine_is_among_the_edges():
    assert edges.protocols() == edges.IMPLEMENTED.keys()
    for protocol, kinds in edges.IMPLEMENTED.items():
        for kind in kinds:
            missing = [one for one in edges.methods(protocol) if not callable(getattr(kind, one))]
            assert not missing, kind


def test_every_edge_is_come_to_or_it_is_said_why_not(census):
    named = {without_moment(edge) for edge in edges.named()}
    reached = {without_moment(edge) for edge in census.edges}
    assert named - reached <= edges.UNREACHED.keys()
    assert edges.UNREACHED.keys() <= named, "what is excused exists"


def test_effects_are_found_by_running(census):
    effects = {edge for edge in census.edges if edge.startswith("effect:")}
    assert "effect:os.rename@store.files.Draft.place" in effects, "a blob is named"
    assert "effect:subprocess.Popen@execute.keeper.Keeper.start" in effects


def test_a_controller_that_is_killed_loses_nothing_and_does_nothing_twice(tmp_path, chance, census):
    tally = Tally()
    wanted = sampled(census, KILLS, chance, [""])
    live(tmp_path / "world", chance, tally, census, wanted)
    told(tally, 0)
    assert tally.violations == []
    assert sum(kill.reached for kill in tally.kills) > KILLS // 4, "edges are reached"
