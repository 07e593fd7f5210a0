"""What a running controller takes over of another configuration."""

from dataclasses import fields, replace
from datetime import timedelta
from pathlib import PurePath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.model.settings import (
    DaggerSettings,
    DirectorySource,
    MaxParallel,
    Receiver,
    SecretRef,
    Settings,
)
from controller.reconcile.reload import difference

names = st.sets(st.sampled_from(["a", "b", "c"]))


@st.composite
def configurations(draw):
    sources = tuple(
        DirectorySource(
            name=name, path=f"/{draw(st.sampled_from('xy'))}", exports=draw(st.booleans())
        )
        for name in sorted(draw(names))
    )
    secrets = {
        name: SecretRef(name=name, env=draw(st.sampled_from("EF")), sources=tuple(draw(names)))
        for name in draw(names)
    }
    return Settings(
        state_dir=PurePath("/state"),
        sources=sources,
        secrets=secrets,
        groups=dict.fromkeys(draw(names), draw(st.integers(1, 2))),
        max_parallel=MaxParallel(runs=draw(st.integers(1, 2)), steps=draw(st.integers(1, 2))),
        shutdown_grace=timedelta(seconds=draw(st.integers(1, 2))),
        listen=draw(st.sampled_from([None, "127.0.0.1:1"])),
        dagger=DaggerSettings(max_concurrent_runs=draw(st.integers(1, 2))),
    )


@given(configurations(), configurations())
def test_a_second_reload_of_the_same_changes_nothing_and_names_the_same_restart(old, new):
    first = difference(old, new)
    second = difference(first.settings, new)
    assert second.settings == first.settings
    assert (second.added, second.removed, second.changed, second.keys) == ((), (), (), ())
    assert second.restart == first.restart


@given(configurations(), configurations())
def test_every_source_is_added_removed_changed_or_was_there_as_it_is(old, new):
    found = difference(old, new)
    before, after = ({one.name: one for one in s.sources} for s in (old, new))
    assert {*found.added} == {*after} - {*before}
    assert {*found.removed} == {*before} - {*after}
    assert {*found.changed} <= {*before} & {*after}
    for name in ({*before} & {*after}) - {*found.changed}:
        assert before[name] == after[name]
    assert found.settings.sources == new.sources


BASE = Settings(
    state_dir=PurePath("/state"),
    sources=(DirectorySource(name="a", path="/a"),),
    secrets={"s": SecretRef(name="s", env="E", sources=("a",))},
)


def test_only_what_manifests_are_judged_by_has_every_source_read_again():
    def changed(**settings):
        return difference(BASE, replace(BASE, **settings)).changed

    other_value = {"s": SecretRef(name="s", env="OTHER", sources=("a",))}
    assert changed(secrets=other_value) == ()
    assert changed(groups={"g": 1}) == ("a",)
    assert changed(secrets={}) == ("a",)
    assert changed(receivers={"r": Receiver(name="r", type="github", secret="s")}) == ("a",)
    assert changed(shutdown_grace=timedelta(seconds=1)) == ()


OTHER: dict[type, Any] = {str: "other", bool: False, int: 7, tuple: ("other",), type(None): "other"}


@pytest.mark.parametrize("name", [one.name for one in fields(DaggerSettings)])
def test_every_setting_of_the_engine_waits_for_a_restart(name):
    other: dict[str, Any] = {name: OTHER.get(type(getattr(BASE.dagger, name)), "other")}
    found = difference(BASE, replace(BASE, dagger=replace(BASE.dagger, **other)))
    assert len(found.restart) == 1
    assert found.restart[0].startswith("dagger.")
    assert found.settings == BASE
