"""Steps in containers, through a Dagger engine. The SDK is imported when a session is opened."""

from controller.execute.dagger.executor import DaggerExecutor, check

__all__ = ["DaggerExecutor", "check"]
