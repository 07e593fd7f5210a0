"""bytes -> model, or every fault at once. Pure: no files but the schemas, no clock."""

from controller.manifest import cron, graph
from controller.manifest.build import workflow
from controller.manifest.index import decode, encode
from controller.manifest.parse import parse_file
from controller.manifest.version import READER_VERSION

__all__ = ["READER_VERSION", "cron", "decode", "encode", "graph", "parse_file", "workflow"]
