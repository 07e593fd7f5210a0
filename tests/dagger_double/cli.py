"""The `dagger` command's double: says where the engine's double answers, ends with its input."""

import json
from pathlib import Path

from tests.dagger_double.engine import TOKEN, VERSION

SCRIPT = """#!/bin/sh
if [ "$1" = version ]; then echo "dagger {version} (double)"; exit; fi
tr '\\0' '\\n' </proc/$$/environ >"{folder}/$$.env"
tr '\\0' '\\n' </proc/$$/cmdline >"{folder}/$$.argv"
{before}
echo '{line}'
while read -r _; do :; done
"""


class Cli:
    """A script, and what its processes saw."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder / "cli"
        self.folder.mkdir()
        self.path = self.folder / "dagger"
        self._port = port
        self.behave()

    def behave(self, before: str = "") -> None:
        """Have it do something before it says its address."""
        line = json.dumps({"port": self._port, "session_token": TOKEN})
        self.path.write_text(
            SCRIPT.format(version=VERSION, folder=self.folder, before=before, line=line)
        )
        self.path.chmod(0o755)

    @property
    def pids(self) -> list[int]:
        """Every session's process so far, oldest first."""
        found = sorted(self.folder.glob("*.env"), key=lambda path: path.stat().st_mtime_ns)
        return [int(path.stem) for path in found]

    def environment(self, pid: int) -> dict[str, str]:
        lines = (self.folder / f"{pid}.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def argv(self, pid: int) -> list[str]:
        return (self.folder / f"{pid}.argv").read_text().splitlines()
