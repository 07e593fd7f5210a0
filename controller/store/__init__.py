"""What happened, kept: runs, steps, attempts, events, workflows, sources, blobs."""

from controller.store.blobs import BlobStore
from controller.store.instances import ServeLock
from controller.store.reader import Reader
from controller.store.retention import Keep
from controller.store.store import Store

__all__ = ["BlobStore", "Keep", "Reader", "ServeLock", "Store"]
