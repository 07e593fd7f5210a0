"""Which work would follow from a revision."""

from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from controller.serve.paging import API, View
from controller.serve.ports import Controller

Revision = Annotated[
    str | None,
    Field(
        max_length=255,
        pattern=r"^[^\s\x00-\x1f~^:?*\[\\]+$",
        description="A branch, a tag, a ref's full name, or a commit by all its 40 digits.",
    ),
]


class PlanRequest(BaseModel):
    """What is compared: of one source, or of all; `base` is what is loaded, `head` the newest."""

    model_config = ConfigDict(extra="forbid")
    source: str | None = None
    base: Revision = None
    head: Revision = None


def install(app: FastAPI, controller: Controller) -> None:
    @app.post(f"{API}/plan")
    async def plan(request: PlanRequest) -> View:
        return dict(await controller.plan(request.source, request.base, request.head))
