"""Steps as processes of this host: for a first try and for tests. It isolates nothing."""

from controller.execute.local.executor import LocalExecutor

__all__ = ["LocalExecutor"]
