"""Results of steps are kept and served: real stores, real processes."""

import asyncio
import random
from dataclasses import replace
from datetime import timedelta

import pytest

from controller.model.run import Phase
from controller.model.workflow import (
    Artifact,
    CacheMode,
    CachePolicy,
    Matrix,
    Mount,
    Step,
    Workflow,
)
from controller.store.results import entries

AUTO = {"cache": {"mode": "Auto"}}


def mounted(name: str, script: str, **more):
    return {
        "name": name,
        "script": script,
        "mounts": [{"input": name, "path": "in"}],
        **AUTO,
        **more,
    }


def counted(tmp_path, *names: str, **more):
    """Steps that each read a file, and leave a mark whenever they really run."""
    marks = tmp_path / "ran"
    marks.mkdir(exist_ok=True)
    for name in names:
        file = tmp_path / "root" / name
        file.exists() or file.write_text(name)
    return {
        "inputs": [{"name": name, "path": name} for name in names],
        "steps": [
            mounted(name, f"cat in; date +%N > {marks}/{name}.$(date +%s%N)", **more)
            for name in names
        ],
    }


def ran(tmp_path) -> list[str]:
    """Which steps ran since this was last asked."""
    marks = sorted((tmp_path / "ran").iterdir())
    for mark in marks:
        mark.unlink()
    return sorted(mark.name.partition(".")[0] for mark in marks)


async def test_a_second_run_executes_nothing_and_says_whose_results_it_has(lab, tmp_path):
    spec = counted(tmp_path, "a", "b")
    first = await lab.run(spec)
    assert ran(tmp_path) == ["a", "b"]
    second = await lab.run(spec)
    assert ran(tmp_path) == []
    assert second.run.phase is Phase.SUCCEEDED
    one = second.steps["a"]
    assert (one.phase, one.reason, one.cached, one.attempts) == ("Succeeded", "Cached", True, 0)
    assert one.cache["result"] == "Hit"
    assert one.cache["run"] == first.run.id
    assert first.steps["a"].cache == {"result": "Miss", "key": one.cache["key"]}
    assert second.attempts == []


async def test_one_changed_input_runs_exactly_its_dependents_and_reverting_it_none(lab, tmp_path):
    spec = counted(tmp_path, "a", "b", "c")
    spec["steps"].append(
        {
            "name": "after",
            "script": f"echo ${{X}}; touch {tmp_path}/ran/after.$(date +%s%N)",
            "env": {"X": "${{ inputs.b.digest }}"},
            "needs": ["b"],
            **AUTO,
        }
    )
    await lab.run(spec)
    assert ran(tmp_path) == ["a", "after", "b", "c"]
    (tmp_path / "root" / "b").write_text("changed")
    changed = await lab.run(spec)
    assert ran(tmp_path) == ["after", "b"]
    differs = changed.steps["b"].cache["differs"]
    assert [one["part"] for one in differs] == ["mount.in"]
    (tmp_path / "root" / "b").write_text("b")
    await lab.run(spec)
    assert ran(tmp_path) == []


async def test_outputs_and_artifacts_come_back_and_feed_what_follows(lab, tmp_path):
    spec = {
        "steps": [
            {
                "name": "make",
                "script": "echo 41 > n; mkdir d; echo deep > d/f",
                "outputs": {"n": {"path": "n", "type": "integer"}},
                "artifacts": [{"name": "d", "path": "d"}],
                **AUTO,
            },
            {
                "name": "use",
                "script": "cat x/f; echo $N",
                "env": {"N": "${{ steps.make.outputs.n + 1 }}"},
                "mounts": [{"artifact": "make.d", "path": "x"}],
            },
        ]
    }
    await lab.run(spec)
    again = await lab.run(spec)
    assert again.steps["make"].cached
    assert again.steps["make"].outputs == {"n": 41}
    assert "deep" in await again.log("use")
    assert "42" in await again.log("use")


async def test_off_computes_no_key(lab):
    story = await lab.run({"steps": [{"name": "a", "script": "true"}]})
    assert story.steps["a"].cache == {}
    assert await lab.store.read(entries) == []


async def test_fresh_computes_anew_and_its_result_is_the_one_that_serves(lab, tmp_path):
    spec = counted(tmp_path, "a")
    await lab.run(spec)
    fresh = await lab.run(spec, fresh=True)
    assert ran(tmp_path) == ["a", "a"]
    assert fresh.steps["a"].cache["result"] == "Fresh"
    third = await lab.run(spec)
    assert third.steps["a"].cache["run"] == fresh.run.id


async def test_a_failed_step_leaves_no_result(lab):
    spec = {"steps": [{"name": "a", "script": "exit 3", **AUTO}]}
    await lab.run(spec)
    again = await lab.run(spec)
    assert again.steps["a"].attempts == 1
    assert await lab.store.read(entries) == []


async def test_what_has_expired_serves_nobody_and_is_removed(lab, tmp_path, keep):
    spec = counted(tmp_path, "a", cache={"mode": "Auto", "ttl": "40ms"})
    await lab.run(spec)
    await asyncio.sleep(0.05)
    again = await lab.run(spec)
    assert ran(tmp_path) == ["a", "a"]
    assert "has expired" in again.steps["a"].cache["why"]
    await asyncio.sleep(0.05)
    await lab.store.housekeep(keep)
    assert await lab.store.read(entries) == []


async def test_a_shorter_ttl_counts_for_results_made_under_a_longer_one(lab, tmp_path):
    await lab.run(counted(tmp_path, "a", cache={"mode": "Auto", "ttl": "1h"}))
    await asyncio.sleep(0.02)
    spec = counted(tmp_path, "a", cache={"mode": "Auto", "ttl": "10ms"})
    assert not (await lab.run(spec)).steps["a"].cached


@pytest.mark.parametrize("harm", ["damaged", "missing"])
async def test_a_damaged_or_missing_blob_is_a_miss_and_says_so(lab, tmp_path, harm):
    spec = counted(tmp_path, "a", artifacts=[{"name": "out", "path": "in"}])
    story = await lab.run(spec)
    path = lab.store.blobs.path(story.steps["a"].artifacts["out"])
    path.unlink() if harm == "missing" else path.write_bytes(b"?")
    again = await lab.run(spec)
    assert ran(tmp_path) == ["a", "a"]
    assert "is damaged" in again.steps["a"].cache["why"]
    assert (await lab.run(spec)).steps["a"].cached


async def test_a_result_that_can_not_be_kept_fails_a_step_that_requires_it(lab, tmp_path):
    drafts = lab.store.blobs.root / "tmp"
    drafts.parent.mkdir(exist_ok=True)
    drafts.write_text("in the way")
    step = {"name": "a", "script": "echo hello"}
    required = await lab.run({"steps": [{**step, "cache": {"mode": "Require"}}]})
    assert (required.phases["a"], required.steps["a"].reason) == ("Failed", "CacheWriteFailed")
    auto = await lab.run({"steps": [{**step, **AUTO}]})
    assert auto.phases["a"] == "Succeeded"
    assert await lab.store.read(entries) == []


async def test_another_source_has_a_scope_of_its_own(lab, tmp_path):
    spec = counted(tmp_path, "a")
    await lab.run(spec)
    other = await lab.run(spec, source="other")
    assert not other.steps["a"].cached


async def test_a_source_that_may_read_another_is_served_its_results_and_keeps_its_own(
    lab, tmp_path
):
    lab.engine._house = replace(
        lab.engine._house,
        scopes=lambda name: {"b": (("b", ""), ("test", ""))}.get(name, ((name, ""),)),
    )
    spec = counted(tmp_path, "a")
    made = await lab.run(spec)
    served = await lab.run(spec, source="b")
    assert served.steps["a"].cache["run"] == made.run.id
    (tmp_path / "root" / "a").write_text("new")
    await lab.run(spec, source="b")
    assert not (await lab.run(spec)).steps["a"].cached


async def test_steps_whose_keys_wait_for_others_and_steps_whose_keys_do_not_mix(lab, tmp_path):
    spec = counted(tmp_path, "a", "b")
    spec["steps"][1]["needs"] = ["a"]
    spec["steps"].insert(
        1, {"name": "of-a", "script": "echo $P", "env": {"P": "${{ steps.a.phase }}"}, **AUTO}
    )
    await lab.run(spec)
    story = await lab.run(spec)
    assert {name: one.cached for name, one in story.steps.items()} == dict.fromkeys(
        ["a", "of-a", "b"], True
    )
    assert story.phases["of-a"] == "Succeeded"


async def test_a_cancelled_run_is_served_nothing_more(lab, tmp_path):
    spec = {
        "steps": [
            {"name": "a", "script": "sleep 30"},
            {"name": "b", "script": "true", "needs": ["a"], **AUTO},
        ]
    }
    run = await lab.make(spec)
    from controller import manifest

    task = asyncio.create_task(lab.engine.execute(run, manifest.workflow(run.spec)))
    await asyncio.sleep(0.3)
    lab.engine.cancel(run.id)
    await task
    story = await lab.story(run.id)
    assert story.phases == {"a": "Cancelled", "b": "Skipped"}


async def test_the_least_used_results_go_when_all_are_too_large(lab, keep):
    for word in ("one", "two", "three"):
        await lab.run({"steps": [{"name": "a", "script": f"echo {word}", **AUTO}]})
    old = "UPDATE cache_entry SET last_used_at = '2001' || substr(created_at, 5)"
    await lab.store.write(lambda tx: tx._connection.execute(old))
    await lab.run({"steps": [{"name": "a", "script": "echo one", **AUTO}]})
    sizes = [one.size for one in await lab.store.read(entries)]
    assert all(sizes)
    await lab.store.housekeep(replace(keep, results_size=sum(sizes) - 1))
    left = await lab.run({"steps": [{"name": "a", "script": "echo one", **AUTO}]})
    gone = await lab.run({"steps": [{"name": "a", "script": "echo two", **AUTO}]})
    assert left.steps["a"].cached
    assert not gone.steps["a"].cached


async def test_a_chain_of_cached_steps_runs_none_of_them_again(lab, tmp_path):
    (tmp_path / "ran").mkdir()
    spec = {
        "steps": [
            {
                "name": f"s{n}",
                "script": f"touch {tmp_path}/ran/s{n}.x; echo {n} > out",
                "outputs": {"o": {"path": "out"}},
                **({"env": {"UP": f"${{{{ steps.s{n - 1}.outputs.o }}}}"}} if n else {}),
                **AUTO,
            }
            for n in range(20)
        ]
    }
    await lab.run(spec)
    assert len(ran(tmp_path)) == 20
    story = await lab.run(spec)
    assert ran(tmp_path) == []
    assert {one.cached for one in story.steps.values()} == {True}


async def test_skip_rules_hold_for_steps_with_results(lab):
    spec = {
        "params": [{"name": "go", "type": "boolean", "default": True}],
        "steps": [
            {"name": "a", "script": "true", **AUTO},
            {"name": "b", "script": "true", "when": "${{ params.go }}", "needs": ["a"], **AUTO},
        ],
    }
    await lab.run(spec, params={"go": True})
    story = await lab.run(spec, params={"go": False})
    assert story.phases == {"a": "Succeeded", "b": "Skipped"}


async def test_logs_and_artifacts_of_results_outlive_the_runs_that_made_them(lab, tmp_path, keep):
    spec = counted(tmp_path, "a", artifacts=[{"name": "out", "path": "in"}])
    made = await lab.run(spec)
    served = await lab.run(spec)
    log, out = served.steps["a"].cache["log"], served.steps["a"].artifacts["out"]
    for digest in (log, out):
        path = lab.store.blobs.path(digest)
        import os

        os.utime(path, (0, 0))
    await lab.store.write(
        lambda tx: tx._connection.execute("DELETE FROM run WHERE id = ?", (made.run.id,))
    )
    await lab.store.write(lambda tx: tx._connection.execute("DELETE FROM attempt"))
    await lab.store.housekeep(keep)
    assert b"cat" not in await lab.store.blobs.get(log)
    assert await lab.store.blobs.get(out) == b"a"


@pytest.fixture
def keep():
    from controller.store.retention import Keep

    return Keep(ttl=timedelta(days=9))


async def test_each_combination_of_a_matrix_has_a_result_of_its_own(lab, tmp_path):
    (tmp_path / "ran").mkdir()
    auto = CachePolicy(mode=CacheMode.AUTO)
    join = Step(
        name="join",
        script=f"cat all/*; touch {tmp_path}/ran/join.x",
        mounts=(Mount(artifact="each.f", path="all"),),
        needs=("each",),
        cache=auto,
    )

    async def ran_with(*letters):
        each = Step(
            name="each",
            script=f"touch {tmp_path}/ran/$L.x; echo $L > f",
            env={"L": "${{ matrix.l }}"},
            matrix=Matrix(axes={"l": list(letters)}),
            artifacts=(Artifact(name="f", path="f"),),
            cache=auto,
        )
        run = await lab.make({"steps": [{"name": "unused", "script": "true"}]})
        await lab.engine.execute(run, Workflow(name="w", steps=(each, join)))
        assert (await lab.story(run.id)).run.phase is Phase.SUCCEEDED
        return ran(tmp_path)

    assert await ran_with("a", "b") == ["a", "b", "join"]
    assert await ran_with("a", "b") == []
    assert await ran_with("b", "c", "a") == ["c", "join"]
    assert await ran_with("b", "a") == ["join"]
    assert await ran_with("a", "b") == []


def pipeline(count: int, feeds: dict[int, list[int]]):
    """Steps that each read a file of their own, and what some earlier ones have made."""
    return {
        "inputs": [{"name": f"in{n}", "path": f"in{n}"} for n in range(count)],
        "defaults": {"cache": {"mode": "Auto"}},
        "steps": [
            {
                "name": f"s{n}",
                "script": "cat in* > out",
                "mounts": [
                    {"input": f"in{n}", "path": "in"},
                    *({"artifact": f"s{up}.out", "path": f"in-{up}"} for up in feeds[n]),
                ],
                "artifacts": [{"name": "out", "path": "out"}],
            }
            for n in range(count)
        ],
    }


def downstream(start: int, feeds: dict[int, list[int]]) -> set[str]:
    reached = {start}
    for n in sorted(feeds):
        if reached & {*feeds[n]}:
            reached.add(n)
    return {f"s{n}" for n in reached}


async def test_of_a_pipeline_of_100_steps_exactly_those_run_that_a_changed_file_reaches(
    lab, tmp_path
):
    chance = random.Random(7)  # noqa: S311 - the same graph each time
    feeds = {n: chance.sample(range(n), k=min(n, chance.randrange(3))) for n in range(100)}
    for n in feeds:
        (tmp_path / "root" / f"in{n}").write_text(f"{n}\n")
    spec = pipeline(100, feeds)

    async def ran_steps():
        story = await lab.run(spec)
        assert story.run.phase is Phase.SUCCEEDED
        return {name for name, one in story.steps.items() if not one.cached}

    assert len(await ran_steps()) == 100
    assert await ran_steps() == set()
    for changed in (0, 41, 97):
        file = tmp_path / "root" / f"in{changed}"
        before = file.read_text()
        file.write_text(f"changed {changed}\n")
        assert await ran_steps() == downstream(changed, feeds)
        file.write_text(before)
        assert await ran_steps() == set()
