"""The exported classes and their schemas say the same; what stands twice is one text."""

import re
from dataclasses import fields
from enum import StrEnum

import pytest

from controller import model
from controller.manifest import document, schema
from controller.manifest.schema import CLASSES
from controller.model import Agent, AgentCapability, AgentFramework, DaggerConfig
from controller.model.settings import DaggerSettings, Settings

ELSEWHERE = {  # where a field of DaggerConfig stands in the file
    "workflow_timeout": ("workflows", "timeout"),
    "retry_limit": ("workflows", "retry", "limit"),
    "cache": ("workflows", "cache", "mode"),
    "cache_enabled": ("workflows", "cache", "enabled"),
    "cache_max_size": ("workflows", "cache", "maxSize"),
}
BESIDE = {"title", "$id", "$schema", "$defs"}


def camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


def field_names(cls) -> set[str]:
    return {camel(one.name) for one in fields(cls)}


def test_every_exported_class_has_its_schema():
    exported = set(model.__all__) - {"Agent"}
    assert exported == set(CLASSES)
    for name in (*CLASSES, "Agent", "Defaults"):
        assert schema.document(name)["type"] in {"object", "string"}
        assert name == "DaggerConfig" or schema.document(name)["title"] == name


@pytest.mark.parametrize("cls", [AgentFramework, AgentCapability])
def test_an_enumeration_lists_its_schemas_values(cls: type[StrEnum]):
    told = schema.document(cls.__name__)
    assert told["enum"] == [str(one) for one in cls]
    assert told["default"] in told["enum"]


def test_a_containers_fields_are_its_schemas():
    told = schema.document("DaggerContainerConfig")
    assert field_names(model.DaggerContainerConfig) == set(told["properties"])
    assert told["required"] == ["image"]


def test_an_agents_fields_are_its_schemas():
    spec = schema.document("Agent")["properties"]["spec"]
    assert field_names(Agent) - {"name"} == set(spec["properties"])


def test_dagger_config_is_the_one_class_of_its_settings():
    assert DaggerConfig is DaggerSettings
    assert isinstance(Settings(state_dir=None).dagger, DaggerConfig)  # type: ignore[arg-type]


def test_dagger_configs_fields_are_its_schemas():
    told = schema.document("DaggerConfig")
    assert told == schema.document("Dagger")
    names = {one.name for one in fields(DaggerConfig)}
    assert {camel(name) for name in names - set(ELSEWHERE)} | {"workflows"} == set(
        told["properties"]
    )
    for name in names & set(ELSEWHERE):
        place = told
        for key in ELSEWHERE[name]:
            place = place["properties"][key]
        assert place


def test_the_container_has_one_schema_wherever_it_stands():
    told = schema.document("DaggerContainerConfig")
    inside = schema.document("Agent")["$defs"]
    assert {key: value for key, value in told.items() if key not in BESIDE} == inside["container"]
    assert {name: inside[name] for name in told["$defs"]} == told["$defs"]


def test_an_agent_of_the_configuration_is_checked_like_one_of_a_manifest():
    whole, agent = schema.document("Dagger"), schema.document("Agent")
    assert whole["$defs"]["agent"] == agent["properties"]["spec"]
    shared = set(whole["$defs"]) & set(agent["$defs"])
    assert {name: whole["$defs"][name] for name in shared} == {
        name: agent["$defs"][name] for name in shared
    }
    agents = {"a": {"container": {"image": "x", "args": ["y"], "script": "z"}}}
    (fault,) = document.faults_of("Dagger", {"agents": agents}, "dagger.yaml")
    assert "not both" in fault.problem


def test_every_schema_decides():
    assert schema.decider("AgentFramework")("dagger")
    assert not schema.decider("AgentFramework")("airflow")
    assert schema.decider("DaggerContainerConfig")({"image": "x"})
    assert not schema.decider("DaggerContainerConfig")({})
