"""The guides under docs/how-to, followed word by word: files written, commands run, output seen."""

import re
from pathlib import Path

import pytest

GUIDES = sorted((Path(__file__).resolve().parents[2] / "docs" / "how-to").glob("*.md"))
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def write(text: str, folder: Path) -> None:
    """Write a block to the file that its first line names."""
    head, content = text.split("\n", 1)
    assert head.startswith("# "), f"a block names its file in the first line: {head}"
    path = folder / head.removeprefix("# ")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_the_guide(page, shell, tmp_path):
    folder = tmp_path / "reader"
    folder.mkdir()
    for kind, text in BLOCK.findall(page.read_text("utf-8")):
        if kind != "console":
            write(text, folder)
            continue
        said = ""
        for line in text.splitlines():
            if line.startswith("$ "):
                done = shell(line.removeprefix("$ "), folder)
                assert done.returncode == 0, (line, done.stdout, done.stderr)
                said = done.stdout
            else:
                assert line in said, (line, said)
