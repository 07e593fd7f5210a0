"""The nouns of Rondel. Pure: nothing here reads a clock, a file or a network."""

from controller.model.agent import Agent, AgentCapability, AgentFramework, DaggerContainerConfig
from controller.model.settings import DaggerConfig

__all__ = ["Agent", "AgentCapability", "AgentFramework", "DaggerConfig", "DaggerContainerConfig"]
