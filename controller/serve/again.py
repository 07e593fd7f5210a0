"""Runs that run again what was recorded."""

from typing import Annotated

from fastapi import FastAPI, Header
from pydantic import BaseModel, ConfigDict

from controller.model import view
from controller.serve.paging import API, View
from controller.serve.ports import Controller


class RetryRequest(BaseModel):
    """How a run is retried: `queue` lets it wait for another run of its workflow."""

    model_config = ConfigDict(extra="forbid")
    queue: bool = False


class RerunRequest(RetryRequest):
    """How a run is run again: from `step` on, the rest taken over; `latest`: as it is now."""

    step: str | None = None
    latest: bool = False


def install(app: FastAPI, controller: Controller) -> None:
    @app.post(f"{API}/runs/{{run_id}}/retry", status_code=202)
    async def retry(run_id: str, request: RetryRequest) -> View:
        return view.run_view(await controller.retry(run_id, queue=request.queue))

    @app.post(f"{API}/runs/{{run_id}}/rerun", status_code=201)
    async def rerun(
        run_id: str,
        request: RerunRequest,
        idempotency_key: Annotated[str | None, Header()] = None,
    ) -> View:
        made = await controller.rerun(
            run_id,
            step=request.step,
            latest=request.latest,
            queue=request.queue,
            key=idempotency_key,
        )
        return view.run_view(made)
