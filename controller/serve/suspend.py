"""Suspending and resuming workflows and sources."""

from datetime import datetime

from fastapi import FastAPI
from pydantic import AwareDatetime, BaseModel, ConfigDict

from controller import clock
from controller.model.condition import Suspension
from controller.model.view import suspension_view
from controller.serve.paging import API, View
from controller.serve.ports import Controller


class SuspendRequest(BaseModel):
    """Who suspends, why, and until when; without `until` until somebody resumes it."""

    model_config = ConfigDict(extra="forbid")
    by: str = "api"
    reason: str = ""
    until: AwareDatetime | None = None


def install(app: FastAPI, controller: Controller) -> None:
    async def put(source: str, workflow: str | None, suspension: Suspension | None) -> View:
        await controller.suspend(source, workflow, suspension)
        return {"source": source, "workflow": workflow, "suspension": suspension_view(suspension)}

    @app.post(f"{API}/sources/{{name}}/suspend")
    async def suspend_source(name: str, request: SuspendRequest) -> View:
        return await put(name, None, suspension(request, clock.SystemClock().now()))

    @app.post(f"{API}/sources/{{name}}/resume")
    async def resume_source(name: str) -> View:
        return await put(name, None, None)

    @app.post(f"{API}/sources/{{source}}/workflows/{{name}}/suspend")
    async def suspend_workflow(source: str, name: str, request: SuspendRequest) -> View:
        return await put(source, name, suspension(request, clock.SystemClock().now()))

    @app.post(f"{API}/sources/{{source}}/workflows/{{name}}/resume")
    async def resume_workflow(source: str, name: str) -> View:
        return await put(source, name, None)


def suspension(request: SuspendRequest, now: datetime) -> Suspension:
    return Suspension(by=request.by, reason=request.reason, at=now, until=request.until)
