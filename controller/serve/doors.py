"""All of the API's parts in one import, so that it can be made beside the loop."""

from controller.serve.app import create_app
from controller.serve.gate import Gate
from controller.serve.metrics import Metrics
from controller.serve.server import ApiServer, TcpServer

__all__ = ["ApiServer", "Gate", "Metrics", "TcpServer", "create_app"]
