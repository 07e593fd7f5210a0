"""What these tests share: a folder of workflows, its controller, a shell as a reader has it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment
from tests.e2e.controller_process import ControllerProcess

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path):
    """An empty source, called `w`."""
    (tmp_path / "w").mkdir()
    return tmp_path / "w"


@pytest.fixture
def controller(tmp_path, folder):
    """A controller of that folder, to be started; it is ended with the test."""
    made = ControllerProcess(tmp_path, "--source", str(folder))
    yield made
    if made.process is not None:
        made.stop()


@pytest.fixture
def shell(tmp_path):
    """A shell whose PATH has `rondel` and whose Git knows who commits."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, words in {"rondel": " -m controller.cli.main", "python3": ""}.items():
        command = bin_ / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}"{words} "$@"\n')
        command.chmod(0o755)
    env = environment(
        PATH=f"{bin_}:{os.environ['PATH']}",
        PYTHONPATH=str(ROOT),
        XDG_STATE_HOME=str(tmp_path / "state-home"),
        **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "You"),
        **dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "you@example.com"),
    )
    started = []

    def call(line: str, folder: Path, *, background: bool = False):
        if background:
            process = subprocess.Popen(
                ["sh", "-c", f"exec {line}"],
                cwd=folder,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            started.append(process)
            return process
        return subprocess.run(
            ["sh", "-c", line],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    yield call
    for process in started:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0
