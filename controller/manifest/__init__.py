"""bytes -> model, or every fault at once. Pure: no files but the schemas, no clock."""

from controller.manifest import cron, expression, graph
from controller.manifest.between import awaited, between
from controller.manifest.build import workflow
from controller.manifest.duplicates import duplicates
from controller.manifest.evaluate import condition, evaluated
from controller.manifest.index import decode, encode
from controller.manifest.params import read_param, resolve_params
from controller.manifest.parse import calls_written, parse_file
from controller.manifest.program import build_workflow
from controller.manifest.version import READER_VERSION

__all__ = [
    "READER_VERSION",
    "awaited",
    "between",
    "build_workflow",
    "calls_written",
    "condition",
    "cron",
    "decode",
    "duplicates",
    "encode",
    "evaluated",
    "expression",
    "graph",
    "parse_file",
    "read_param",
    "resolve_params",
    "workflow",
]
