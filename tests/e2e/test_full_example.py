"""The manifest that shows the whole language, run: with stand-ins for its scripts and images."""

import json
import sys
from pathlib import Path

import pytest

from tests.integration import test_dagger_live, test_dagger_live_modules

FULL = (Path(__file__).parents[1] / "unit" / "manifests" / "full.yaml").read_text()
AGENT = """\
apiVersion: rondel/v1alpha1
kind: Agent
metadata: {name: summariser}
spec:
  inputs: {type: object, required: [operation], properties: {operation: {type: string}, schema: {type: object}}}
  container:
    image: IMAGE
    script: |
      grep -q '"operation": "transform"' "$RONDEL_INPUTS"
      echo '{"fields": 2}' > summary.json
  outputs: {summary: {path: summary.json, type: json}}
"""
SCRIPTS = {
    "extract.sh": 'test "$1" = --day; test -n "$2"; test -n "$DB_URL"; echo pip >> "$PIP/used"\n'
    'echo 7 > count.txt; echo \'{"regions": ["eu", "us"], "n": [1, 2]}\' > "$4"\n',
    "render.sh": 'test "$1" = --format; grep -q regions rows.json; echo "rendered $2"\n',
    "publish.sh": "#!/bin/sh\nFETCH http://${DB_HOST:-db}:PORT/ > page; echo published\n",
    "cleanup.sh": "#!/bin/sh\necho cleaned\n",
}
CONFIG = "secrets: {warehouse-url: {env: WAREHOUSE_URL, sources: [exec]}}\n"
ALWAYS = [
    ("python extract.py", "sh extract.sh"),
    ("args: [python, render.py,", "args: [sh, render.sh,"),
    ("readyWhen: {port: 5432}", "readyWhen: {port: PORT}"),
    ("run.trigger != 'Manual'", "run.trigger == 'Manual'"),  # a person runs it here
]
LOCAL = [
    ('      user: "1000"\n', ""),
    ("path: /root/.cache/pip", "path: cache/pip"),
    ('env: {REGION: "${{ params.region }}", DAY', 'env: {PIP: cache/pip, REGION: "${{ params.region }}", DAY'),
    ("services: [{name: db, image: postgres:16,", "services: [{name: db, args: [PYTHON, -m, http.server, 'PORT'],"),
]  # fmt: skip
DAGGER = [
    ("path: /root/.cache/pip", "path: /tmp/pip"),
    ('env: {REGION: "${{ params.region }}", DAY', 'env: {PIP: /tmp/pip, REGION: "${{ params.region }}", DAY'),
    ("services: [{name: db, image: postgres:16,", "services: [{name: db, image: IMAGE, args: [sh, -c, 'mkdir w; echo db > w/index.html; httpd -f -p PORT -h w'],"),
    ("python:3.12-slim", "IMAGE"),
    ("github.com/acme/report-module", test_dagger_live_modules.REF),
    ("call: check,", "call: check-all,"),
]  # fmt: skip

FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).status)"
HERE = {
    "PORT": "54329",
    "IMAGE": "any",
    "PYTHON": sys.executable,
    "FETCH": f"{sys.executable} -c '{FETCH}'",
}
versions = test_dagger_live_modules.versions


def without_module(text: str) -> str:
    head, _, rest = text.partition("    - name: check\n")
    return head + rest[rest.index("    - name: summarise") :]


def placed(folder: Path, text: str, changes: list[tuple[str, str]], **names: str) -> Path:
    """Write the manifest, its agent and its scripts; every change must change something."""
    for old, new in (*ALWAYS, *changes):
        assert old in text, old
        text = text.replace(old, new)
    (folder / "reports").mkdir()
    files = {"full.yaml": text, "agent.yaml": AGENT, "rondel.yaml": CONFIG} | {
        f"reports/{name}": script for name, script in SCRIPTS.items()
    }
    for name, content in files.items():
        for old, new in names.items():
            content = content.replace(old, new)  # noqa: PLW2901 - a few words
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    return folder / "full.yaml"


def judged(done) -> None:
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    steps = {(one["name"], str(one["matrix"] or "")): one for one in run["steps"]}
    assert run["phase"] == "Succeeded"
    assert run["outputs"] == {"rows": {"regions": ["eu", "us"], "n": [1, 2]}}
    assert steps["extract", ""]["outputs"]["count"] == 7
    assert [one for one in steps if one[0] == "render"] == [
        ("render", "{'format': 'html'}"),
        ("render", "{'format': 'pdf'}"),
    ]
    assert [one[1] for one in steps if one[0] == "each-region"] == [
        "{'region': 'eu'}",
        "{'region': 'us'}",
    ]
    assert steps["summarise", ""]["outputs"]["summary"] == {"fields": 2}
    assert {key[0]: one["phase"] for key, one in steps.items()} == {
        **dict.fromkeys(["extract", "render", "each-region", "summarise"], "Succeeded"),
        **({"check": "Succeeded"} if ("check", "") in steps else {}),
        "publish": "Succeeded",
        "page": "Skipped",
        "cleanup": "Succeeded",
    }
    for line in ("rendered html", "rendered pdf", "published", "cleaned"):
        assert line in done.stderr
    assert "postgres://secret-value" not in done.stdout + done.stderr


def ran(rondel, file: Path, *words: str):
    return rondel(
        *("exec", str(file), "-o", "json", "--config", str(file.parent / "rondel.yaml")),
        *("--root", str(file.parent), *words),
        WAREHOUSE_URL="postgres://secret-value",
    )


def test_it_runs_on_local_and_its_second_run_is_served_from_the_cache(tmp_path, rondel):
    file = placed(tmp_path, without_module(FULL), LOCAL, **HERE)
    judged(ran(rondel, file, "--executor", "local"))
    again = ran(rondel, file, "--executor", "local")
    judged(again)
    cached = {one["name"]: one["cached"] for one in json.loads(again.stdout)["steps"]}
    assert cached["extract"]
    assert cached["summarise"]
    assert not cached["publish"], "its cache is off"


@pytest.mark.dagger
@pytest.mark.skipif(not test_dagger_live.HERE, reason="needs an engine and RONDEL_TEST_IMAGE")
def test_it_runs_on_dagger_complete(tmp_path, rondel, versions):
    image = test_dagger_live.IMAGE or ""
    commit = "3f786850e387550fdab836ed7e6dc881de23001b"
    file = placed(
        tmp_path,
        FULL.replace(commit, versions[0]),
        DAGGER,
        PORT="5432",
        IMAGE=image,
        FETCH="wget -q -O -",
    )
    judged(ran(rondel, file, "--executor", "dagger"))


def test_it_validates_and_renders(tmp_path, rondel):
    file = placed(tmp_path, without_module(FULL), LOCAL, **HERE)
    told = rondel("validate", str(file), str(tmp_path / "agent.yaml"))
    assert told.returncode == 0, told.stdout
    assert "no faults" in told.stdout
    shown = rondel("render", str(file)).stdout
    assert "cron: 30 2 * * *" in shown
    assert "capabilities" not in shown
