import re
from pathlib import Path

import pytest

from controller import manifest
from controller.manifest import schema

PAGE = (Path(__file__).parents[2] / "docs/reference/workflow.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \| [^|]+ \| [^|]+ \|$", re.MULTILINE)
TABLES = {
    # heading of the page: definition of the schema
    "metadata": "metadata",
    "spec": "spec",
    "spec.params": "param",
    "spec.schedules": "schedule",
    "spec.triggers": "trigger",
    "spec.concurrency": "concurrency",
    "spec.history": "history",
    "spec.suspendAfter": "spec.suspendAfter",
    "spec.inputs": "input",
    "steps": "step",
    "mounts": "mount",
    "secrets of a step": "secretUse",
    "matrix": "matrix",
    "module": "module",
    "uses": "uses",
    "caches": "cacheVolume",
    "services": "service",
    "retry": "retry",
    "backoff": "backoff",
    "cache": "cache",
}


def definition(name):
    document = schema.document("Workflow")
    if name == "metadata":
        return document["properties"]["metadata"]
    name, _, field = name.partition(".")
    found = document["$defs"][name]
    return found["properties"][field] if field else found


def rows(heading):
    section = PAGE.split(f"\n### {heading}\n", 1)[1].split("\n### ", 1)[0].split("\n## ", 1)[0]
    return {name: default.strip() for name, default in ROW.findall(section)}


@pytest.mark.parametrize("heading", TABLES)
def test_the_page_names_every_field_of_the_schema_and_no_other(heading):
    assert set(rows(heading)) == set(definition(TABLES[heading])["properties"])


@pytest.mark.parametrize("heading", TABLES)
def test_the_page_tells_the_schemas_defaults_and_what_is_required(heading):
    found = definition(TABLES[heading])
    told = rows(heading)
    for name, field in found["properties"].items():
        if name in found.get("required", ()):
            assert told[name] == "required", name
        if "default" in field:
            assert told[name] == f"`{shown(field['default'])}`", name


def shown(value):
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_every_yaml_example_of_the_page_is_valid():
    for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        parsed = manifest.parse_file("page.yaml", text.encode())
        assert [fault for one in parsed.documents for fault in one.faults] == []
        assert manifest.workflow(parsed.documents[0].body or "").steps


def test_every_example_of_a_step_field_is_valid():
    section = PAGE.split("\n### steps\n", 1)[1].split("\n### ", 1)[0]
    for name, example in re.findall(r"^\| `(\w+)` .* `([^`]+)` \|$", section, re.MULTILINE):
        if name in {"name", "script", "agent", "alert", "needs", "mounts", "inputs", "when"}:
            continue  # they need more around them
        work = "" if name in {"args", "module", "uses"} else "script: x, "
        text = f"steps: [{{name: s, {work}{name}: {example}}}]"
        head = "apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {name: a}\nspec:\n  "
        parsed = manifest.parse_file("page.yaml", (head + text).encode())
        assert [str(fault) for one in parsed.documents for fault in one.faults] == []
