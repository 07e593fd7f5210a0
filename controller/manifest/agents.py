"""Bodies rewritten before a run is pinned.

Agents become containers, the operator's defaults stand where the manifest says nothing, and a run
may stop early.
"""

import json
from collections.abc import Mapping
from typing import Any

from controller import digest
from controller.errors import UsageError
from controller.manifest.build import SECTIONS, workflow
from controller.manifest.names import nearest
from controller.model.agent import Agent
from controller.model.quantity import format_duration
from controller.model.settings import DaggerSettings
from controller.model.workflow import UNSET

BUILT_IN = DaggerSettings()


def pinned(body: str, settings: DaggerSettings) -> str:
    """Return what a run of the body is pinned to, under the operator's configuration.

    Raises:
        UsageError: an agent that isn't configured.
    """
    return with_operator_defaults(expanded(body, settings.agents), settings)


def expanded(body: str, agents: Mapping[str, Agent]) -> str:
    """Return the body with each agent's container in its step's place, so that it is pinned too.

    Raises:
        UsageError: an agent that isn't configured.
    """
    if '"agent"' not in body:
        return body
    value = json.loads(body)
    for section in SECTIONS:
        for step in value["spec"].get(section, ()):
            if "agent" in step:
                become(step, known(step.pop("agent"), agents))
    return digest.canonical(value)


def with_operator_defaults(body: str, settings: DaggerSettings) -> str:
    """Return the body with config/dagger.yaml's `workflows` where the manifest says nothing."""
    timeout, limit, cache = settings.workflow_timeout, settings.retry_limit, settings.cache
    if (timeout, limit, cache) == (BUILT_IN.workflow_timeout, 0, BUILT_IN.cache):
        return body
    value = json.loads(body)
    spec = value["spec"]
    spec.setdefault("timeout", format_duration(timeout))
    defaults = spec.setdefault("defaults", {})
    defaults.setdefault("retry", {}).setdefault("limit", limit)
    kept = defaults.setdefault("cache", {})
    kept.setdefault("mode", str(cache.mode))
    kept.setdefault("ttl", format_duration(cache.ttl))
    return digest.canonical(value)


def known(name: str, agents: Mapping[str, Agent]) -> Agent:
    """Return the agent of that name; `_` and `-` are the same in it. Raises UsageError."""
    normal = name.replace("_", "-")
    found = {key.replace("_", "-"): agent for key, agent in agents.items()}.get(normal)
    if found is None:
        raise UsageError(
            f"there is no agent {name!r}",
            remedy=nearest(normal, agents) if agents else "define it under `agents`",
        )
    return found


def become(step: dict[str, Any], agent: Agent) -> None:
    """Make a step what its agent is; what the step says itself wins."""
    container = agent.container
    if container is None:
        raise UsageError(f"agent {agent.name!r} has no container")
    step.setdefault("inputs", {})
    step.setdefault("image", container.image)
    if container.script is not None:
        step["script"] = container.script
    else:
        step["args"] = list(container.args or ())
    if container.workdir is not None:
        step.setdefault("workdir", container.workdir)
    step["env"] = {**container.env, **step.get("env", {})}
    step["outputs"] = {**outputs(agent), **step.get("outputs", {})}
    artifacts = [{"name": one.name, "path": one.path} for one in agent.artifacts]
    step["artifacts"] = [*artifacts, *step.get("artifacts", ())]


def outputs(agent: Agent) -> dict[str, Any]:
    return {
        one.name: {"path": one.path, "type": str(one.type)}
        | ({} if one.default is UNSET else {"default": one.default})
        for one in agent.outputs
    }


def until_step(body: str, name: str) -> str:
    """Return the body with one step and what it needs; hooks and finally stay.

    Raises:
        UsageError: there is no such step.
    """
    steps = {step.name: step for step in workflow(body).steps}
    if name not in steps:
        raise UsageError(f"there is no step {name!r}", remedy=nearest(name, steps))
    wanted: set[str] = set()
    pending = [name]
    while pending:
        one = pending.pop()
        if one not in wanted:
            wanted.add(one)
            pending += [need for need in steps[one].needs if need in steps]
    value = json.loads(body)
    value["spec"]["steps"] = [one for one in value["spec"]["steps"] if one["name"] in wanted]
    value["spec"].pop("outputs", None)
    return digest.canonical(value)
