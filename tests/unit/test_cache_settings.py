"""Whose results a source may read, and what the configuration says of the cache."""

import pytest

from controller import assembly, config
from controller.errors import UsageError
from controller.execute.request import cache_scope

MAIN = '{name: main, kind: Git, url: "https://x.example/a.git", ref: {branch: main}}'


def settings(tmp_path, text):
    (tmp_path / "rondel.yaml").write_text(text)
    return config.load(tmp_path / "rondel.yaml", state=tmp_path)


def test_a_source_reads_its_own_scope_then_those_it_is_allowed(tmp_path):
    found = settings(
        tmp_path,
        f"sources:\n  - {MAIN}\n"
        "  - {name: here, kind: Directory, path: ., cache: {readFrom: [main]}}\n",
    )
    assert assembly.scopes(found, "main") == (("main", "branch:main"),)
    assert assembly.scopes(found, "here") == (("here", ""), ("main", "branch:main"))
    assert assembly.scopes(found, "exec") == (("exec", ""),)


def test_cache_volumes_are_a_sources_own_unless_it_shares_them_by_name(tmp_path):
    found = settings(
        tmp_path,
        f"sources:\n  - {MAIN}\n"
        "  - {name: here, kind: Directory, path: ., cache: {shareCaches: pool}}\n"
        "  - {name: there, kind: Directory, path: .., cache: {shareCaches: pool}}\n"
        "  - {name: pool, kind: Directory, path: /tmp}\n",
    )
    scopes = {name: assembly.volumes(found, name) for name in ("main", "here", "there", "pool")}
    assert scopes["here"] == scopes["there"]
    assert len({*scopes.values()}) == 3
    assert assembly.volumes(found, "exec") == cache_scope("exec")


def test_a_source_to_read_from_must_exist(tmp_path):
    with pytest.raises(UsageError, match="no source 'other'") as caught:
        settings(
            tmp_path,
            "sources:\n  - {name: a, kind: Directory, path: ., cache: {readFrom: [other]}}\n",
        )
    assert "/sources/0/cache/readFrom" in str(caught.value)


def test_the_cache_has_a_switch_and_a_bound(tmp_path):
    plain = settings(tmp_path, "sources: []\n").dagger
    assert (plain.cache_enabled, plain.cache_max_size) == (True, 10 << 30)
    text = "dagger: {workflows: {cache: {enabled: false, maxSize: 1Mi}}}\n"
    chosen = settings(tmp_path, text).dagger
    assert (chosen.cache_enabled, chosen.cache_max_size) == (False, 1 << 20)
