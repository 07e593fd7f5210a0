"""Suspending and resuming workflows and sources; who does is told by the connection."""

from fastapi import FastAPI
from pydantic import AwareDatetime, BaseModel, ConfigDict

from controller import clock
from controller.model.condition import Suspension
from controller.model.view import suspension_view
from controller.serve.paging import API, View
from controller.serve.ports import Controller
from controller.serve.who import Who


class SuspendRequest(BaseModel):
    """Why, and until when; without `until` until somebody resumes it."""

    model_config = ConfigDict(extra="forbid")
    reason: str = ""
    until: AwareDatetime | None = None


def install(app: FastAPI, controller: Controller) -> None:
    async def put(source: str, workflow: str | None, suspension: Suspension | None) -> View:
        still = await controller.suspend(source, workflow, suspension)
        shown = suspension_view(suspension)
        return {"source": source, "workflow": workflow, "suspension": shown, "still": still}

    @app.post(f"{API}/sources/{{name}}/suspend")
    async def suspend_source(name: str, request: SuspendRequest, by: Who) -> View:
        return await put(name, None, suspension(request, by))

    @app.post(f"{API}/sources/{{name}}/resume")
    async def resume_source(name: str) -> View:
        return await put(name, None, None)

    @app.post(f"{API}/sources/{{source}}/workflows/{{name}}/suspend")
    async def suspend_workflow(source: str, name: str, request: SuspendRequest, by: Who) -> View:
        return await put(source, name, suspension(request, by))

    @app.post(f"{API}/sources/{{source}}/workflows/{{name}}/resume")
    async def resume_workflow(source: str, name: str) -> View:
        return await put(source, name, None)


def suspension(request: SuspendRequest, by: str) -> Suspension:
    at = clock.SystemClock().now()
    return Suspension(by=by, reason=request.reason, at=at, until=request.until)
