"""Which paths are part of a source, and where a link leads."""

import pytest

from controller.source.files import link_target
from controller.source.ignoring import ignoring, parents
from controller.source.local import tells
from controller.source.objects import is_read


@pytest.mark.parametrize(
    ("path", "link", "target"),
    [
        ("a", "b", "b"),
        ("w/a", "b", "w/b"),
        ("w/a", "../b", "b"),
        ("w/a", "./x/../b", "w/b"),
        ("a", "../b", None),
        ("w/a", "../../b", None),
        ("w/a", "/etc/passwd", None),
        ("w/a", "../.git/config", None),
        ("w/a", ".hidden", None),
        ("w/a", "..", None),
        ("w/a", "../w/b", "w/b"),
    ],
)
def test_a_link_leads_inside_or_nowhere(path, link, target):
    assert link_target(path, link) == target


@pytest.mark.parametrize("path", ["a", "a/b", "a..b/c.d", "-x", "a b\n"])
def test_these_paths_of_a_tree_are_read(path):
    assert is_read(path)


@pytest.mark.parametrize(
    "path", ["", "..", "../x", "a/../x", "/etc", ".git/x", "a/.b", "a//b", "a/./b"]
)
def test_these_are_not(path):
    assert not is_read(path)


def test_an_ignored_folder_is_asked_for_with_a_slash():
    ignored = ignoring(("drafts/", "*.tmp", "!keep.tmp"))
    assert ignored("drafts/")
    assert not ignored("drafts")
    assert ignored("x/a.tmp")
    assert not ignored("x/keep.tmp")


def test_the_folders_above_a_path():
    assert parents("a/b/c") == ["a", "a/b"]
    assert parents("a") == []


@pytest.mark.parametrize(
    "path", ["/r/.git/HEAD", "/r/.git/refs/heads/index", "/r/.git/packed-refs"]
)
def test_these_changes_may_mean_a_moved_ref(path):
    assert tells(path)


@pytest.mark.parametrize("path", ["/r/.git/index", "/r/.git/HEAD.lock", "/r/.git/ORIG_HEAD"])
def test_these_do_not(path):
    assert not tells(path)
