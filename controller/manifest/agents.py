"""Bodies rewritten before a run is pinned.

Agents become containers, the operator's defaults stand where the manifest says nothing, and a run
may stop early.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from controller import digest
from controller.errors import UsageError
from controller.manifest.build import SECTIONS, artifact, module, mount, output, workflow
from controller.manifest.names import nearest
from controller.model.agent import Agent, AgentCapability, AgentFramework, DaggerContainerConfig
from controller.model.quantity import format_duration
from controller.model.settings import DaggerSettings
from controller.model.workflow import UNSET, Step

BUILT_IN = DaggerSettings()
CONTAINER = AgentCapability.CONTAINERIZED_WORKFLOW


def pinned(body: str, settings: DaggerSettings, agents: Mapping[str, Agent] | None = None) -> str:
    """Return what a run of the body is pinned to, under the operator's configuration.

    `agents` are its source's own; of one name they win over the operator's.

    Raises:
        UsageError: an agent that nobody defines.
    """
    known_here = {**settings.agents, **(agents or {})}
    return with_operator_defaults(expanded(body, known_here), settings)


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


def agent(name: str, spec: Mapping[str, Any]) -> Agent:
    """Return the agent that a schema-checked spec describes, of a manifest or the configuration."""
    return Agent(
        name=name,
        framework=AgentFramework(spec.get("framework", "dagger")),
        capabilities=tuple(map(AgentCapability, spec.get("capabilities", (CONTAINER,)))),
        description=spec.get("description", ""),
        inputs=spec.get("inputs", {}),
        container=container(spec["container"]) if "container" in spec else None,
        module=module(spec["module"]) if "module" in spec else None,
        outputs=tuple(output(key, one) for key, one in spec.get("outputs", {}).items()),
        artifacts=tuple(map(artifact, spec.get("artifacts", ()))),
    )


def container(spec: Mapping[str, Any]) -> DaggerContainerConfig:
    return DaggerContainerConfig(
        image=spec["image"],
        args=tuple(spec["args"]) if "args" in spec else None,
        script=spec.get("script"),
        env=spec.get("env", {}),
        mounts=tuple(map(mount, spec.get("mounts", ()))),
        workdir=spec.get("workdir"),
        user=spec.get("user"),
    )


def known_as(name: str, agents: Mapping[str, Agent]) -> Agent | None:
    """Return the agent of that name, if there is one; `_` and `-` are the same in it."""
    normal = name.replace("_", "-")
    return {key.replace("_", "-"): agent for key, agent in agents.items()}.get(normal)


def known(name: str, agents: Mapping[str, Agent]) -> Agent:
    """Return the agent of that name; `_` and `-` are the same in it. Raises UsageError."""
    found = known_as(name, agents)
    if found is None:
        remedy = nearest(name, agents) if agents else "define it under `agents`"
        raise UsageError(f"there is no agent {name!r}", remedy=remedy)
    return found


def become(step: dict[str, Any], agent: Agent) -> None:
    """Make a step what its agent is; what the step says itself wins."""
    step.setdefault("inputs", {})
    if agent.container is not None:
        run_in(step, agent.container)
    if agent.module is not None:
        one = agent.module
        step["module"] = {"ref": one.ref, "version": one.version, "call": one.call}
        step["module"]["args"] = dict(one.args)
    if agent.inputs:
        step["inputsSchema"] = dict(agent.inputs)
    step |= results(agent, step.get("outputs", {}), step.get("artifacts", ()))


def run_in(step: dict[str, Any], container: DaggerContainerConfig) -> None:
    step.setdefault("image", container.image)
    if container.script is not None:
        step["script"] = container.script
    else:
        step["args"] = list(container.args or ())
    for key in ("workdir", "user"):
        if (value := getattr(container, key)) is not None:
            step.setdefault(key, value)
    step["env"] = {**container.env, **step.get("env", {})}
    mounts = [{"input": one.input, "path": one.path} for one in container.mounts]
    if mounts:
        step["mounts"] = [*mounts, *step.get("mounts", ())]


def results(agent: Agent, outputs: Mapping[str, Any], artifacts: Iterable[Any]) -> dict[str, Any]:
    """Return what a step of this agent gives: the agent's results, then those it adds itself."""
    given = {
        one.name: {"path": one.path, "type": str(one.type)}
        | ({} if one.default is UNSET else {"default": one.default})
        for one in agent.outputs
    }
    kept = [{"name": one.name, "path": one.path} for one in agent.artifacts]
    return {"outputs": {**given, **outputs}, "artifacts": [*kept, *artifacts]}


def unfit(step: Step) -> str:
    """Return how an evaluated step's inputs don't fit its agent's schema; "" when they do."""
    if not step.inputs_schema:
        return ""
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - 90 ms: only for typed inputs

    given = dict(step.inputs or {})
    errors = Draft202012Validator(dict(step.inputs_schema)).iter_errors(given)
    return "; ".join("/".join(map(str, ("inputs", *e.path))) + f": {e.message}" for e in errors)


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
