"""The Python API: workflows of agents on the same run engine, store and cache as the daemon."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from controller import config as configuration
from controller import ids
from controller.errors import UsageError
from controller.manifest import build_workflow, calls
from controller.manifest.agents import known, pinned
from controller.manifest.around import Around, input_findings
from controller.manifest.calls import Interface, interface
from controller.manifest.finding import Finding, pointer
from controller.manifests import Manifests
from controller.model.agent import Agent
from controller.model.run import Phase, StepRun
from controller.model.settings import Settings
from controller.model.workflow import Json
from controller.oneshot import Ended, oneshot

ENGINES = ("dagger", "local")
WORKFLOWS = Path("workflows")  # the folder of manifests that nobody has to name


class Task(str):
    """A task's id; it knows how to write its outputs into another task's inputs."""

    __slots__ = ("name",)

    def __new__(cls, name: str) -> Self:
        made = super().__new__(cls, normalised(name))
        made.name = name
        return made

    name: str

    def output(self, name: str) -> str:
        """Return the expression for an output of this task, for the `inputs` of another."""
        return f"${{{{ steps.{self.replace('-', '_')}.outputs.{name.replace('-', '_')} }}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """What one task has come to."""

    phase: str
    outputs: Mapping[str, Json] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)  # name -> digest
    error: str = ""
    attempts: int = 0
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowResult:
    """What a run has come to; `tasks` by the names they were added with."""

    id: str
    phase: str
    reason: str = ""
    message: str = ""
    tasks: Mapping[str, TaskResult] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        return self.phase == Phase.SUCCEEDED


class WorkflowBuilder:
    """A workflow made by a program: tasks of agents, in the order of what they depend on."""

    def __init__(self, engine: "OrchestrationEngine", name: str, description: str) -> None:
        self._engine = engine
        self.name = normalised(name)
        self.description = description
        self.id = f"{self.name}-{ids.nonce()[:10]}"
        self._steps: dict[Task, dict[str, Any]] = {}
        self._inputs: list[dict[str, Json]] = []

    def add_task(
        self,
        name: str,
        agent: str | None = None,
        inputs: Mapping[str, Json] | None = None,
        depends_on: Iterable[str] = (),
        *,
        uses: str | None = None,
    ) -> Task:
        """Add a task and return it; it is a `str` that holds its id.

        Args:
            name: unique in the workflow; `_` is taken for `-`.
            agent: an agent of the configuration, or of a manifest in the workflow directory.
            inputs: what the agent gets as JSON; may hold `task.output("name")`.
            depends_on: tasks or ids that end before this one starts.
            uses: in place of an agent, a workflow whose manifest is in the workflow directory;
                `inputs` are its params.

        Raises:
            UsageError: an unknown agent or workflow, inputs that don't fit it, a name that is
                taken, a task that isn't there.
        """
        if (agent is None) == (uses is None):
            raise UsageError("a task has an agent, or uses a workflow", where=f"task {name}")
        given = dict(inputs or {})
        work = self._call(name, uses, given) if uses else self._agent(name, agent or "", given)
        task = Task(name)
        if task in self._steps:
            raise UsageError(f"there is a task {name!r} already", where=f"workflow {self.name}")
        needs = [normalised(one) for one in depends_on]
        for need in needs:
            if need not in self._steps:
                raise UsageError(f"depends on {need!r}, which isn't there", where=f"task {name}")
        self._steps[task] = {
            "name": str(task),
            **work,
            **({"needs": needs} if needs else {}),
        }
        return task

    def _agent(self, task: str, agent: str, inputs: dict[str, Json]) -> dict[str, Any]:
        refuse_unfit(task, input_findings(self._engine.agent(agent), inputs, ("inputs",)))
        return {"agent": normalised(agent), "inputs": inputs}

    def _call(self, task: str, workflow: str, params: dict[str, Json]) -> dict[str, Any]:
        name = normalised(workflow)
        uses = {"workflow": name, "params": params}
        known = {name: self._engine.interface(name)}
        refuse_unfit(task, calls.check([("steps", 0, {"uses": uses})], known))
        return {"uses": uses}

    def add_input(self, name: str, path: str) -> None:
        """Name a file or folder below the workflow directory, for agents that mount it."""
        self._inputs.append({"name": normalised(name), "path": path})

    @property
    def tasks(self) -> tuple[Task, ...]:
        return tuple(self._steps)

    def spec(self) -> dict[str, Any]:
        """Return the manifest's spec of this workflow."""
        inputs = {"inputs": self._inputs} if self._inputs else {}
        return {"steps": list(self._steps.values()), **inputs}


class OrchestrationEngine:
    """Builds workflows and executes them; any number of them beside a daemon."""

    def __init__(
        self,
        config: str | Path | Mapping[str, Any] | None = None,
        *,
        workflow_directory: str | Path | None = None,
    ) -> None:
        """Read the configuration.

        Args:
            config: a file, or a mapping as the file would hold; without it the file is looked up
                as the commands do.
            workflow_directory: the folder whose agents and workflows `add_task` knows; without it
                `workflows`, where there is one.

        Raises:
            UsageError: a fault of the configuration, or no such folder.
        """
        self.settings = settings_of(config)
        self._manifests = manifests_in(workflow_directory, self.settings)
        self._workflows: dict[str, WorkflowBuilder] = {}

    def agent(self, name: str) -> Agent:
        """Return the agent of that name; `_` and `-` are the same in it.

        Raises:
            UsageError: nobody defines it, or its manifest has faults.
        """
        return found_agent(name, self._manifests, self.settings)

    def interface(self, workflow: str) -> Interface:
        """Return the params and outputs of a workflow of the folder.

        Raises:
            UsageError: there is none of that name, or its manifest has faults.
        """
        if self._manifests is None:
            remedy = "OrchestrationEngine(workflow_directory=...)"
            raise UsageError(f"no folder of manifests for {workflow!r}", remedy=remedy)
        return interface(self._manifests.workflow(workflow).body or "")

    def create_workflow(self, name: str, description: str = "") -> WorkflowBuilder:
        """Return a new, empty workflow."""
        made = WorkflowBuilder(self, name, description)
        self._workflows[made.id] = made
        return made

    def execute_workflow(
        self,
        workflow_id: str,
        engine_type: str = "dagger",
        container_registry: str | None = None,
        workflow_directory: str | Path | None = None,
        skip_cache: bool = False,
    ) -> WorkflowResult:
        """Execute a workflow to its end; see `execute`, which is its awaitable twin.

        Raises:
            RuntimeError: called inside a running event loop; await `execute` there.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(
                self.execute(
                    workflow_id,
                    engine_type=engine_type,
                    container_registry=container_registry,
                    workflow_directory=workflow_directory,
                    skip_cache=skip_cache,
                )
            )
        raise RuntimeError("an event loop is running here: await engine.execute(...) instead")

    async def execute(
        self,
        workflow_id: str,
        *,
        engine_type: str = "dagger",
        container_registry: str | None = None,
        workflow_directory: str | Path | None = None,
        skip_cache: bool = False,
    ) -> WorkflowResult:
        """Execute a workflow to its end and return what became of it.

        Args:
            workflow_id: of `create_workflow`.
            engine_type: "dagger" or "local".
            container_registry: for image names without a registry, in this run.
            workflow_directory: the root of inputs and the folder whose agents are used; without
                it the engine's own.
            skip_cache: compute everything anew.

        Raises:
            UsageError: an unknown workflow, engine or folder, or a workflow with faults.
        """
        settings = self._settings(engine_type, container_registry)
        workflow = self._workflows.get(workflow_id)
        if workflow is None:
            raise UsageError(f"there is no workflow {workflow_id!r}", remedy="create_workflow(...)")
        manifests = self._manifests
        if workflow_directory is not None:
            manifests = manifests_in(workflow_directory, settings)
        body = body_of(workflow, manifests, settings)
        root = manifests.root if manifests else Path.cwd()
        async with oneshot(settings, root=root, kind="api") as here:
            return result_of(await here.execute(body, {}, fresh=skip_cache), workflow)

    def _settings(self, engine_type: str, registry: str | None) -> Settings:
        if engine_type not in ENGINES:
            raise UsageError(f"there is no engine {engine_type!r}", remedy="use dagger or local")
        dagger = self.settings.dagger
        if registry is not None:
            dagger = replace(dagger, default_registry=registry)
        return replace(self.settings, executor=engine_type, dagger=dagger)


def settings_of(config: str | Path | Mapping[str, Any] | None) -> Settings:
    if isinstance(config, Mapping):
        return configuration.from_mapping(config)
    file = configuration.locate(Path(config) if config is not None else None, here=True)
    return configuration.load(file)


def manifests_in(folder: str | Path | None, settings: Settings) -> Manifests | None:
    """Return the manifests of a folder; of `workflows`, where there is one, when none is named."""
    place = Path(folder) if folder is not None else WORKFLOWS
    if place.is_dir():
        return Manifests(place, settings)
    if folder is None:
        return None
    raise UsageError("there is no such folder", where=f"workflow_directory {str(folder)!r}")


def own_agents(manifests: Manifests | None) -> Mapping[str, Agent]:
    """Return the folder's own agents; of one name they win over the configuration's."""
    return manifests.around.agents if manifests else {}


def found_agent(name: str, manifests: Manifests | None, settings: Settings) -> Agent:
    if manifests and (faults := manifests.around.agent_faults(normalised(name))):
        raise UsageError("\n".join(map(str, faults)))
    return known(name, {**settings.dagger.agents, **own_agents(manifests)})


def refuse_unfit(task: str, findings: Iterable[Finding]) -> None:
    """Raise UsageError when literal inputs don't fit an agent's schema or a workflow's params."""
    problem = "\n".join(f"{pointer(one.path)}: {one.problem}" for one in findings)
    if problem:
        raise UsageError(problem, where=f"task {task}", remedy="see what it takes as inputs")


def body_of(workflow: WorkflowBuilder, manifests: Manifests | None, settings: Settings) -> str:
    """Return what a run of the workflow is pinned to. Raises UsageError."""
    spec = workflow.spec()
    used = [step["uses"]["workflow"] for step in spec["steps"] if "uses" in step]
    around = Around(
        agents={**settings.dagger.agents, **own_agents(manifests)},
        closed=True,
        called=manifests.interfaces(used) if manifests else {},
    )
    metadata = {"name": workflow.name, "description": workflow.description}
    _, body = build_workflow(metadata, spec, around=around)
    return manifests.pinned(workflow.name, body) if manifests else pinned(body, settings.dagger)


def normalised(name: str) -> str:
    return name.replace("_", "-")


def result_of(ended: Ended, workflow: WorkflowBuilder) -> WorkflowResult:
    steps = {step.name: step for step in ended.steps}
    return WorkflowResult(
        id=ended.run.id,
        phase=str(ended.run.phase),
        reason=ended.run.reason,
        message=ended.run.message,
        tasks={
            task.name: task_result(steps[str(task)]) for task in workflow.tasks if task in steps
        },
    )


def task_result(step: StepRun) -> TaskResult:
    return TaskResult(
        phase=str(step.phase),
        outputs=step.outputs,
        artifacts=step.artifacts,
        error=step.error,
        attempts=step.attempts,
        cached=step.cached,
    )
