"""A step's place serves the next step only when the step has left nothing at all in it."""

from pathlib import Path

import pytest

from controller.model.run import Phase
from tests.conftest import Lab

LEFT = {
    "a file": "echo x > left",
    "a hidden file": "echo x > .left",
    "a file at home": "echo x > $HOME/left",
    "a temporary file": "mkdir $TMPDIR/left",
    "a file beside": "echo x > ../left",
    "another mode": "chmod 755 .",
    "no home": "rmdir $HOME",
    "a link for a home": "rmdir $HOME && ln -s / $HOME",
    "no way in": "chmod 000 $TMPDIR",
    "nothing": "true",
}
CLEAN = (
    'test -z "$(ls -A .)" && test -z "$(ls -A $HOME)" && test -z "$(ls -A $TMPDIR)" '
    '&& test "$(ls -A ..|tr "\\n" " ")" = "home tmp workspace " '
    '&& test "$(stat -c %a . $HOME $TMPDIR | tr "\\n" " ")" = "700 700 700 " && test ! -L $HOME'
)


@pytest.mark.parametrize("script", LEFT.values(), ids=LEFT)
async def test_the_next_step_begins_in_an_empty_place(lab: Lab, script: str) -> None:
    story = await lab.run(
        {
            "steps": [
                {"name": "first", "script": script},
                {"name": "second", "needs": ["first"], "script": CLEAN},
            ]
        }
    )
    assert story.run.phase is Phase.SUCCEEDED, story.steps
    places = Path(lab.store.state_dir) / "work"
    assert not [*places.glob("*")], "nothing outlives the run"
