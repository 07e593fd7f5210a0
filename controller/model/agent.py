"""Reusable, typed steps: what the orchestration API calls agents."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from controller.model.workflow import Artifact, Json, ModuleCall, Mount, Output


class AgentFramework(StrEnum):
    DAGGER = "dagger"


class AgentCapability(StrEnum):
    CONTAINERIZED_WORKFLOW = "containerized_workflow"
    DAGGER_PIPELINE = "dagger_pipeline"


@dataclass(frozen=True, slots=True, kw_only=True)
class DaggerContainerConfig:
    """The container an agent runs in."""

    image: str
    args: tuple[str, ...] | None = None
    script: str | None = None
    env: Mapping[str, Json] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    workdir: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A container with typed inputs (JSON Schema) and declared outputs.

    It reads its inputs as JSON from the file named by `RONDEL_INPUTS`.
    """

    name: str
    framework: AgentFramework = AgentFramework.DAGGER
    capabilities: tuple[AgentCapability, ...] = (AgentCapability.CONTAINERIZED_WORKFLOW,)
    description: str = ""
    inputs: Mapping[str, Json] = field(default_factory=dict)  # JSON Schema; {} takes anything
    container: DaggerContainerConfig | None = None  # exactly one of container and module
    module: ModuleCall | None = None
    outputs: tuple[Output, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
