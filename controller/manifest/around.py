"""What stands around a workflow and changes what it says: Defaults of its folders, agents."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller import digest
from controller.manifest import raw
from controller.manifest.agents import known_as, results
from controller.manifest.build import SECTIONS, merged
from controller.manifest.calls import Interface
from controller.manifest.finding import Finding
from controller.manifest.names import nearest
from controller.manifest.values import has_expression
from controller.model.agent import Agent

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Around:
    """What one file's workflows are read with.

    `defaults` are the specs of kind Defaults of its folder and those above, the nearest on top.
    Without `closed` nobody knows which agents there are: one that isn't here is not judged, and
    neither is the call of a workflow that isn't among `called`.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)
    agents: Mapping[str, Agent] = field(default_factory=dict)
    closed: bool = False
    called: Mapping[str, Interface] = field(default_factory=dict)  # of other workflows, by name

    @property
    def mark(self) -> str:
        """Return what tells texts read with this from others; "" when it changes nothing."""
        if not self.defaults and not self.agents and not self.closed and not self.called:
            return ""
        agents = sorted((name, repr(agent)) for name, agent in self.agents.items())
        told: list[Any] = [dict(self.defaults), agents, self.closed]
        if self.called:
            told.append(sorted((name, repr(one)) for name, one in self.called.items()))
        return digest.of_value(told)[7:23]

    def applied(self, document: Document) -> Document:
        """Return a Workflow with the Defaults below what it says itself; maps merge."""
        if not self.defaults:
            return document
        spec = dict(document["spec"])
        for key in ("defaults", "history"):
            if key in self.defaults:
                spec[key] = merged(self.defaults[key], spec.get(key, {}))
        if "timeZone" in self.defaults and "schedules" in spec:
            spec["schedules"] = [
                {"timeZone": self.defaults["timeZone"], **one} for one in spec["schedules"]
            ]
        return {**document, "spec": spec}

    def completed(self, spec: Document) -> Document:
        """Return a spec whose agents' steps have their agents' outputs and artifacts."""
        if not self.agents:
            return spec
        full = dict(spec)
        for section in SECTIONS:
            if isinstance(spec.get(section), list):
                full[section] = [self._completed_step(step) for step in spec[section]]
        return full

    def _completed_step(self, step: Any) -> Any:
        agent = self.agent_of(step)
        if agent is None:
            return step
        own = (item for _, item in raw.entries(step, "artifacts"))
        return {**step, **results(agent, raw.mapping(step, "outputs"), own)}

    def agent_of(self, step: Any) -> Agent | None:
        """Return the agent that a raw step names, if it is known."""
        name = step.get("agent") if isinstance(step, dict) else None
        return known_as(name, self.agents) if isinstance(name, str) else None

    def open_steps(self, steps: raw.Steps) -> frozenset[str]:
        """Return the steps whose agents nobody here knows: what they give is not judged."""
        if self.closed:
            return frozenset()
        return frozenset(
            step["name"]
            for _, _, step in steps
            if isinstance(step.get("agent"), str)
            and isinstance(step.get("name"), str)
            and self.agent_of(step) is None
        )

    def check(self, steps: raw.Steps) -> Iterator[Finding]:
        """Yield agents that nobody defines, and literal inputs that don't fit theirs."""
        for section, index, step in steps:
            if not isinstance(name := step.get("agent"), str):
                continue
            path = raw.step_path(section, index)
            agent = self.agent_of(step)
            if agent is not None:
                yield from input_findings(agent, step.get("inputs", {}), (*path, "inputs"))
            elif self.closed:
                remedy = nearest(name, self.agents, none="commit a manifest of kind Agent")
                yield Finding((*path, "agent"), f"there is no agent {name!r}", remedy)


PLAIN = Around()


def input_findings(agent: Agent, inputs: Any, path: tuple[str | int, ...]) -> Iterator[Finding]:
    """Yield what of an agent's inputs doesn't fit its schema; expressions fit everything."""
    if not agent.inputs or not isinstance(inputs, dict):
        return
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - 90 ms: only for typed inputs

    for error in Draft202012Validator(dict(agent.inputs)).iter_errors(inputs):
        if not has_expression(error.instance):
            where = (*path, *error.absolute_path)
            yield Finding(where, f"agent {agent.name!r}: {error.message}", "see its inputs")


def schema_findings(document: Document) -> Iterator[Finding]:
    """Yield what of an Agent's `inputs` is no JSON Schema."""
    wanted = raw.mapping(document.get("spec"), "inputs")
    if not wanted:
        return
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415 - as above

    try:
        Draft202012Validator.check_schema(wanted)
    except SchemaError as error:
        path = ("spec", "inputs", *error.absolute_path)
        yield Finding(path, f"this is no JSON Schema: {error.message}", "see json-schema.org")
