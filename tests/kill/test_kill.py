"""The edges of state at which `python -m tests.kill --times 500 --seed N` kills a controller.

Here they are only counted: that the code names them all.
"""

from typing import get_args

from controller.model.changes import Change
from tests.kill import edges


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
