"""All of the API's parts in one import, so that it can be made beside the loop."""

from controller.serve.app import create_app
from controller.serve.metrics import Metrics
from controller.serve.server import ApiServer

__all__ = ["ApiServer", "Metrics", "create_app"]
