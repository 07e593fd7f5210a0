"""What commands tell of matrix steps."""

import json
import re

from tests.engine_lab import lab, step, workflow
from tests.integration.test_matrix import render


async def told_by_commands(tmp_path):
    """Return the id of a run that is over, in the store that `rondel` of the test looks at."""
    script = 'echo "made $F"; [ "$F" = html ]'
    async with lab(tmp_path) as rig:
        story = await rig.execute(workflow(render(script), step("plain", "echo hello")))
    return story.run.id


async def test_logs_name_the_combination(tmp_path, rondel):
    run = await told_by_commands(tmp_path)
    assert set(rondel("logs", run).stdout.splitlines()) == {
        "plain | hello",
        "render[format=html] | made html",
        "render[format=pdf] | made pdf",
    }
    lines = [json.loads(line) for line in rondel("logs", run, "-o", "json").stdout.splitlines()]
    assert {(one["step"], json.dumps(one.get("matrix")), one["line"]) for one in lines} == {
        ("plain", "null", "hello"),
        ("render", '{"format": "html"}', "made html"),
        ("render", '{"format": "pdf"}', "made pdf"),
    }


async def test_logs_of_one_step_or_one_combination(tmp_path, rondel):
    run = await told_by_commands(tmp_path)
    both = {"render[format=html] | made html", "render[format=pdf] | made pdf"}
    assert set(rondel("logs", run, "render").stdout.splitlines()) == both
    one = rondel("logs", run, "render[format=pdf]").stdout
    assert one == "render[format=pdf] | made pdf\n"
    wrong = rondel("logs", run, "render[format=odt]")
    assert wrong.returncode == 2
    assert "render[format=html], render[format=pdf], plain" in wrong.stderr


async def test_get_and_describe_show_each_combination(tmp_path, rondel):
    run = await told_by_commands(tmp_path)
    shown = json.loads(rondel("get", "run", run, "-o", "json").stdout)
    facts = [(one["name"], one["matrix"], one["phase"], one["attempts"]) for one in shown["steps"]]
    assert facts == [
        ("render", {"format": "html"}, "Succeeded", 1),
        ("render", {"format": "pdf"}, "Failed", 1),
        ("plain", None, "Succeeded", 1),
    ]
    story = rondel("describe", "run", run).stdout
    assert re.search(r"^  render\[format=pdf\] +Failed ", story, re.MULTILINE)
    assert any(
        "StepFinished" in line and "render[format=pdf]" in line for line in story.split("\n")
    )
