"""What happened, kept: runs, steps, attempts, events, workflows, sources, blobs."""

from controller.store.instances import ServeLock
from controller.store.reader import Reader
from controller.store.store import Store

__all__ = ["Reader", "ServeLock", "Store"]
