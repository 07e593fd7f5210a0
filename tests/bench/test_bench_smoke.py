"""The bench itself works; what it measures is not judged here."""

from tests.bench.__main__ import run
from tests.bench.rows import table
from tests.bench.scale import SCALES


def test_operations_bring_rows_with_a_ratio_to_their_floor():
    rows, failed = run(["record", "chain", "cached", "plan"], SCALES["tiny"])
    assert not failed
    assert {row.operation for row in rows} == {"record", "chain", "cached", "plan"}
    assert all(row.ratio for row in rows)
    assert table(rows).count("\n") == len(rows) + 1


def test_a_commit_to_one_folder_of_many_is_counted_beside_one_to_none():
    rows, failed = run(["monorepo"], SCALES["tiny"])
    assert not failed
    assert [row.figure.partition(" of ")[2].split(" of ")[0] for row in rows] == [
        "a commit to one folder",
        "a commit to none",
    ]
