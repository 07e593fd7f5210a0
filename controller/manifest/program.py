"""Workflows that programs build: the same checks as for a manifest, without a file."""

import json
from typing import Any

from controller.errors import UsageError
from controller.manifest import checks, schema
from controller.manifest.around import PLAIN, Around
from controller.manifest.build import workflow
from controller.manifest.finding import Finding, pointer
from controller.manifest.parse import pinned
from controller.model.workflow import Workflow

API_VERSION = "rondel/v1alpha1"


def build_workflow(
    metadata: dict[str, Any], spec: dict[str, Any], *, around: Around = PLAIN
) -> tuple[Workflow, str]:
    """Return the workflow that a program describes in the manifest's words, and its body.

    `around` has the agents that its steps may use.

    Raises:
        UsageError: it has faults; all of them are listed, one a line.
    """
    document = _plain({"metadata": metadata, "spec": spec})
    document |= {"apiVersion": API_VERSION, "kind": "Workflow"}
    if found := _findings(document, around):
        name = metadata.get("name", "the workflow")
        raise UsageError("\n".join(map(_line, found)), where=f"workflow {name}")
    body, _ = pinned(document["metadata"], document["spec"])
    return workflow(body), body


def _plain(value: Any) -> Any:
    """Return the value as JSON has it: tuples become lists, keys text."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"a workflow holds JSON values only: {error}") from None


def _findings(document: dict[str, Any], around: Around) -> list[Finding]:
    found: list[Finding] = []
    if not schema.decider("Workflow")(document):
        from controller.manifest.explain import explain  # noqa: PLC0415 - jsonschema costs 90 ms

        found.extend(explain("Workflow", document))
    return list(dict.fromkeys((*found, *checks.check(document, around=around))))


def _line(finding: Finding) -> str:
    return f"{pointer(finding.path)}: {finding.problem}" + (
        f"; {finding.remedy}" if finding.remedy else ""
    )
