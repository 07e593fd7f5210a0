"""A step's key holds all that can change its result, and nothing else."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.model.workflow import (
    Artifact,
    CacheMode,
    CachePolicy,
    CacheVolume,
    Matrix,
    ModuleCall,
    Mount,
    Output,
    OutputType,
    Retry,
    SecretUse,
    Service,
    Step,
)
from controller.reconcile.step_key import differing, explained, in_words, key, nearest, parts

WORLD: dict[str, Any] = {
    "image": "alpine@sha256:1",
    "inputs": {"src": "sha256:a", "other": "sha256:b"},
    "artifacts": {"make.out": "sha256:c", "make.log": "tree:sha256:d"},
    "secrets": {"token": "1", "login": "7"},
    "executor": "local",
}
STEP = Step(
    name="a",
    image="alpine:3",
    script="true",
    env={"X": "1"},
    mounts=(Mount(path="src", input="src"), Mount(path="out", artifact="make.out")),
    caches=(CacheVolume(key="pip", path="pip"),),
    services=(Service(name="db", image="pg@sha256:2", ready_port=5432),),
    outputs=(Output(name="n", path="n"),),
    artifacts=(Artifact(name="d", path="d"),),
    secrets=(SecretUse(secret="token", name="TOKEN"),),
)

names = st.sampled_from(["A", "B", "C"])
values = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.text(max_size=3))
steps = st.builds(
    Step,
    name=st.sampled_from(["a", "b"]),
    script=st.one_of(st.none(), st.text(max_size=3)),
    args=st.one_of(st.none(), st.lists(st.text(max_size=2), max_size=2).map(tuple)),
    env=st.dictionaries(names, values, max_size=3),
    workdir=st.one_of(st.none(), st.just("w")),
    user=st.one_of(st.none(), st.just("u")),
    mounts=st.lists(
        st.sampled_from([Mount(path="p", input="src"), Mount(path="q", artifact="make.out")]),
        max_size=3,
    ).map(tuple),
    secrets=st.lists(
        st.sampled_from([SecretUse(secret="token", name="T"), SecretUse(secret="token", file="t")]),
        max_size=2,
    ).map(tuple),
    outputs=st.lists(st.sampled_from([Output(name="n", path="n")]), max_size=1).map(tuple),
)


def made(step=STEP, **world):
    return parts(step, **{**WORLD, **world})


def means(step: Step) -> object:
    """What a step does, told in another way than by its parts."""
    env = {name: (type(value), value) for name, value in step.env.items() if value is not None}
    command = (step.script, step.shell if step.script is not None else None, step.args or None)
    rest = (step.mounts, step.secrets, step.outputs, step.workdir, step.user)
    return command, env, sorted(map(repr, rest[0])), rest[1:]


@given(steps, steps)
def test_two_steps_that_do_the_same_have_one_key_and_others_have_two(one, two):
    first, second = made(one), made(two)
    if means(one) == means(two) and one.mounts == two.mounts:
        assert key(first) == key(second)
    if key(first) == key(second):
        assert means(one) == means(two)
    assert (differing(first, second) == []) == (key(first) == key(second))


@given(steps)
def test_a_key_does_not_depend_on_the_order_in_which_things_were_written(step):
    turned = replace(step, env=dict(reversed([*step.env.items()])))
    assert key(made(step)) == key(made(turned))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "b"},
        {"needs": ("x",)},
        {"when": "${{ true }}"},
        {"retry": Retry(limit=3)},
        {"timeout": timedelta(seconds=3)},
        {"continue_on_error": True},
        {"success_exit_codes": (0, 3)},
        {"cache": CachePolicy(mode=CacheMode.REQUIRE, ttl=timedelta(days=1))},
        {"matrix": Matrix(axes={"x": [1]})},
        {"env": {"X": "1", "Y": None}},
    ],
)
def test_what_can_not_change_a_result_is_in_no_key(change):
    assert made(replace(STEP, **change)) == made()


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"script": "false"}, "script"),
        ({"shell": ("bash", "-c")}, "shell"),
        ({"env": {"X": "2"}}, "env.X"),
        ({"env": {"X": ""}}, "env.X"),
        ({"env": {}}, "env.X"),
        ({"workdir": "w"}, "workdir"),
        ({"user": "u"}, "user"),
        ({"mounts": (STEP.mounts[1],)}, "mount.src"),
        ({"caches": (CacheVolume(key="pip", path="other"),)}, "cache.pip"),
        ({"services": (replace(STEP.services[0], image="pg@sha256:3"),)}, "service.db"),
        ({"services": (replace(STEP.services[0], env={"A": 1}),)}, "service.db"),
        ({"outputs": (Output(name="n", path="n", type=OutputType.INTEGER),)}, "outputs"),
        ({"outputs": (Output(name="n", path="n", default=None),)}, "outputs"),
        ({"artifacts": (Artifact(name="d", path="e"),)}, "artifacts"),
        ({"secrets": (SecretUse(secret="token", file="t"),)}, "secret.token"),
        ({"inputs": {}}, "inputs"),
        ({"module": ModuleCall(ref="r", version="0" * 40, call="c")}, "module"),
    ],
)
def test_what_can_change_a_result_changes_its_part_alone(change, part):
    assert [one["part"] for one in differing(made(), made(replace(STEP, **change)))] == [part]


@pytest.mark.parametrize(
    ("world", "part"),
    [
        ({"image": "alpine@sha256:9"}, "image"),
        ({"executor": "dagger"}, "executor"),
        ({"inputs": {"src": "sha256:z"}}, "mount.src"),
        ({"artifacts": {"make.out": "sha256:z"}}, "mount.out"),
        ({"artifacts": {"make.out": ["sha256:c", None]}}, "mount.out"),
        ({"secrets": {"token": "2"}}, "secret.token"),
    ],
)
def test_what_a_step_is_given_is_in_its_key(world, part):
    assert [one["part"] for one in differing(made(), made(**world))] == [part]


def test_what_a_step_is_not_given_is_not_in_its_key():
    others: dict[str, Any] = {
        "inputs": {**WORLD["inputs"], "other": "x"},
        "artifacts": {**WORLD["artifacts"], "make.log": "x"},
        "secrets": {**WORLD["secrets"], "login": "8"},
    }
    assert made(**others) == made()


def test_the_same_path_mounted_twice_keeps_both_contents_in_the_key():
    twice = replace(STEP, mounts=(Mount(path="p", input="src"), Mount(path="p", input="other")))
    changed = made(twice, inputs={"src": "sha256:changed", "other": "sha256:b"})
    assert key(made(twice)) != key(changed)


def test_differences_are_told_in_words():
    was, now = made(), made(replace(STEP, script="false", env={"X": 2}, user="u", caches=()))
    assert [in_words(one) for one in differing(was, now)] == [
        "cache.pip is gone",
        "env.X was 1, is 2",
        "the content of script changed",
        "user is new",
    ]


def test_the_result_most_alike_is_the_nearest_and_the_newest_of_equals():
    far, near = made(replace(STEP, script="x", user="u")), made(replace(STEP, user="u"))
    assert nearest([far, near, near], made()) == (1, [{"part": "user", "was": "u", "now": None}])
    assert nearest([], made()) is None
    assert explained(made(), "", []) == {}
    assert explained(made(), "it has expired", []) == {"why": "it has expired"}


def test_long_values_are_told_by_their_beginning():
    long = replace(STEP, env={"X": "y" * 1000})
    [told] = differing(made(), made(long))
    assert len(told["now"]) < 120
