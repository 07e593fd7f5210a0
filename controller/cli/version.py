"""`rondel version`."""

import json
import platform
from typing import Annotated

import typer

from controller import __version__


def version(
    output: Annotated[str, typer.Option("--output", "-o", help="text or json.")] = "text",
) -> None:
    """Print the version.

    Example: rondel version -o json
    """
    if output == "json":
        print(json.dumps({"version": __version__, "python": platform.python_version()}))
    else:
        print(f"rondel {__version__} (Python {platform.python_version()})")
