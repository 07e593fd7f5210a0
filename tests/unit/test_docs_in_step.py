"""Reference pages and examples name what there is, and nothing else."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from controller import config
from controller.cli.main import COMMANDS
from controller.manifest import document, parse_file

ROOT = Path(__file__).resolve().parents[2]


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_the_command_page_lists_every_command_with_its_words():
    rows = re.findall(
        r"^\| `rondel (\S+)` \| (.+) \|$", read("docs/reference/cli.md"), re.MULTILINE
    )
    assert dict(rows) == {name: told for name, (_, _, told) in COMMANDS.items()}


def test_every_command_has_an_example_in_its_help():
    from importlib import import_module

    for name, (module, function, _) in COMMANDS.items():
        told = getattr(import_module(f"controller.cli.{module}"), function).__doc__
        assert "Example: rondel " in told, name


def test_the_http_page_lists_every_route():
    from controller.serve.app import create_app
    from controller.serve.metrics import Metrics

    app = create_app(None, None, Metrics(), None)  # type: ignore[arg-type]  # nothing is asked of it
    routes = set(app.openapi()["paths"]) - {"/openapi.json"}
    page = read("docs/reference/http.md")
    assert {
        route for route in routes if f"{route}`" not in page and f"{route} " not in page
    } == set()
    told = set(re.findall(r"(?:GET|POST) (/[^`\s]*)", page))
    assert told - routes - {"/openapi.json"} == set()


def defaults(kind: str, path: str) -> set[str]:
    """The keys of the schema that the shown configuration does not name, even in a comment."""
    text = read(path)
    return {key for key in document.schema_of(kind)["properties"] if f"{key}:" not in text}


def test_every_setting_is_shown_and_explained():
    assert defaults("Config", "config/rondel.yaml") == set()
    assert defaults("Dagger", "config/dagger.yaml") == set()


def test_the_shown_configuration_holds_the_defaults(monkeypatch, tmp_path):
    monkeypatch.setenv("RONDEL_STATE_DIR", str(tmp_path))
    shown = config.load(ROOT / "config" / "rondel.yaml")
    plain = config.load(None)
    assert shown.store_url == f"sqlite:///{tmp_path}/rondel.db"
    assert set(shown.dagger.agents) == {"data-fetcher", "data-processor"}
    shown = replace(shown, dagger=replace(shown.dagger, agents={}))
    for name in plain.__slots__:
        if name not in {"file", "store_url"}:
            assert getattr(shown, name) == getattr(plain, name), name


GUIDES = [
    f"docs/how-to/{path.name}"
    for path in sorted((ROOT / "docs" / "how-to").glob("*.md"))
    if not path.name.startswith("deploy-")  # of those, tests/integration/test_deploy.py takes care
]


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md", *GUIDES])
def test_manifests_in_the_docs_are_valid(page):
    blocks = re.findall(r"```yaml\n(.*?)```", read(page), re.DOTALL)
    assert blocks
    for block in blocks:
        if "apiVersion" in block:
            parsed = parse_file(page, block.encode())
            assert [*parsed.faults, *(f for one in parsed.documents for f in one.faults)] == []
        else:
            _, faults = document.read_document("Config", page, block.encode())
            assert faults == ()


def test_links_between_pages_lead_somewhere():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_schema_is_json():
    for path in (ROOT / "schemas").glob("*.json"):
        assert json.loads(path.read_text(encoding="utf-8"))["type"] in {"object", "string"}
