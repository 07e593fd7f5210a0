"""Tests as on a machine with the standard library, PyYAML and pytest: a plugin of pytest.

Other packages are refused as if they were not installed, and so are the rooms of this program that
touch the world. A test module, or a test, that asks for one is left out; how many, is told.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

OWN = {"controller", "tests"}
ALLOWED = {"yaml", "_yaml", "pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments"}
PURE = ("model", "manifest", "reconcile", "digest", "errors")


class RefusedImportError(ImportError):
    """The import of a package that a standalone run does without."""


class OnlyThese(MetaPathFinder):
    """Refuses every import beyond the standard library, PyYAML, pytest and the pure rooms."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if not allowed(fullname):
            raise RefusedImportError(fullname)
        return None


def allowed(name: str) -> bool:
    first, _, rest = name.partition(".")
    if first == "controller":
        return not rest or rest.partition(".")[0] in PURE
    return (
        first in OWN | ALLOWED
        or first in sys.stdlib_module_names
        or first.startswith("_sysconfigdata")
    )


class WithoutHypothesis(ModuleType):
    """Stands where Hypothesis would: property tests are skipped, the others of a module run."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self

    __or__ = __getitem__ = __call__

    @staticmethod
    def given(*_: Any, **__: Any) -> Any:
        @pytest.mark.skip("needs hypothesis")
        def test() -> None:
            """Be skipped in a property's place."""

        return lambda _: test

    @staticmethod
    def settings(*_: Any, **__: Any) -> Any:
        return lambda test: test

    example = settings


def refuse_other_imports() -> None:
    """Begin to refuse; pytest's plugins of other packages are not loaded."""
    for name in ("hypothesis", "hypothesis.strategies"):
        sys.modules[name] = WithoutHypothesis(name)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.meta_path.insert(0, OnlyThese())


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the settings of plugins that are not here."""
    for name in ("asyncio_mode", "asyncio_default_fixture_loop_scope", "timeout"):
        parser.addini(name, "of a plugin that is not loaded")


left_out: dict[str, str] = {}  # test module -> what it needs


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    if collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    needed = needs(collection_path)
    if needed is not None:
        left_out[collection_path.name] = needed
    return needed is not None or None


def needs(file: Path) -> str | None:
    """Return the first refused import of a test module; None when it can be imported."""
    name = f"tests.{file.parent.name}.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except RefusedImportError as error:
        return str(error)
    return None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A test that asks for a refused package while it runs is skipped, with that reason."""
    outcome = yield
    if call.excinfo is not None and call.excinfo.errisinstance(RefusedImportError):
        report = outcome.get_result()
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, f"Skipped: needs {call.excinfo.value}")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    tell = terminalreporter.write_line
    ran = len(terminalreporter.stats.get("passed", [])) + len(
        terminalreporter.stats.get("failed", [])
    )
    tell(f"standalone: {ran} tests ran; {len(left_out)} modules left out")
    for name, needed in sorted(left_out.items()):
        tell(f"  {name} needs {needed}")
