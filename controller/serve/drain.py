"""Draining: what runs ends, what is new waits."""

from dataclasses import asdict

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from controller.serve.paging import API, View
from controller.serve.ports import Controller


class DrainRequest(BaseModel):
    """Whether runs are claimed no more, or again."""

    model_config = ConfigDict(extra="forbid")
    undo: bool = False


def install(app: FastAPI, controller: Controller) -> None:
    @app.post(f"{API}/drain", status_code=202)
    async def drain(request: DrainRequest) -> View:
        return asdict(await controller.drain(undo=request.undo))

    @app.get(f"{API}/drain")
    async def draining() -> View:
        return asdict(controller.draining())
