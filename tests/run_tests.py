"""A part of the suite by its name: `python tests/run_tests.py --type unit [--coverage] [-- WORDS]`.

Thin over pytest: what stands after `--` is handed on. `standalone` runs the tests of the pure rooms
that need nothing but the standard library, PyYAML and pytest; other imports are refused, and the
modules that need them are left out and named.
"""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
PARTS = {
    "unit": ["unit"],
    "integration": ["integration"],
    "error": ["error_handling"],
    "e2e": ["e2e"],
    "standalone": ["unit"],
    "all": ["."],
}
COVERAGE = "pytest_cov"
USAGE = 2


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run a part of the tests.")
    parser.add_argument("--type", choices=PARTS, default="all", help="which part (default: all)")
    parser.add_argument("--coverage", action="store_true", help="tell which lines ran")
    parser.add_argument("rest", nargs="*", metavar="-- WORDS", help="handed on to pytest")
    return parser.parse_args(words)


def words_for(asked: argparse.Namespace) -> list[str]:
    """Return what pytest is called with."""
    words = [str(TESTS / part) for part in PARTS[asked.type]]
    if asked.type == "standalone":
        words += ["-o", "addopts=-q", "--noconftest"]
    if asked.coverage:
        words += ["--cov=controller", "--cov-report=term-missing:skip-covered"]
    return [f"--rootdir={ROOT}", *words, *asked.rest]


def main(words: Sequence[str]) -> int:
    asked = arguments(words)
    if asked.coverage and importlib.util.find_spec(COVERAGE) is None:
        print(
            "--coverage needs pytest-cov; install it with: python -m pip install pytest-cov",
            file=sys.stderr,
        )
        return USAGE
    sys.path.insert(0, str(ROOT))
    plugins = []
    if asked.type == "standalone":
        from tests import standalone

        standalone.refuse_other_imports()
        plugins.append(standalone)
    import pytest

    return int(pytest.main(words_for(asked), plugins))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
