"""`python tests/run_tests.py`, as a developer calls it."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = {
    "unit": "test_model_schemas.py",
    "integration": "test_python_api.py",
    "error": "test_run_faults.py",
    "e2e": "test_run_tests.py",
}


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "tests/run_tests.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(("part", "module"), PARTS.items())
def test_each_type_is_its_folder_and_hands_words_on(part, module):
    done = run("--type", part, "--", "--collect-only", "-k", module.removesuffix(".py"))
    assert done.returncode == 0, done.stdout + done.stderr
    collected = set(re.findall(r"^tests/(\S+?)(?:::|:)", done.stdout, re.MULTILINE))
    assert {Path(one).name for one in collected} == {module}
    assert run("--type", part, "--", "-k", "nothing_is_named_so").returncode == 5


def test_standalone_runs_the_pure_rooms_without_other_packages():
    done = run("--type", "standalone", "--", "-k", "not property")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    told = re.search(r"standalone: (\d+) tests ran; (\d+) modules left out", done.stdout)
    assert told is not None
    assert int(told[1]) > 150
    assert "test_store_rows.py needs controller.store" in done.stdout


def test_coverage_measures_or_says_what_to_install():
    done = run("--type", "unit", "--coverage", "--", "-k", "test_an_enumeration_lists")
    if importlib.util.find_spec("pytest_cov") is None:
        assert done.returncode == 2
        assert "pip install pytest-cov" in done.stderr
    else:
        assert done.returncode == 0, done.stdout
        assert "TOTAL" in done.stdout


def test_an_unknown_type_lists_the_known_ones():
    done = run("--type", "slow")
    assert done.returncode == 2
    assert "standalone" in done.stderr
