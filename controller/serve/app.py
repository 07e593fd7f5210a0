"""The HTTP API: what has happened, what may be asked."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Header, HTTPException, Query, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from controller import __version__
from controller.errors import UsageError
from controller.model import view
from controller.model.run import Phase
from controller.serve import again, backfill, cache, drain, hooks, plan, problems, suspend
from controller.serve.cursor import decode, encode
from controller.serve.follow import follow_log
from controller.serve.metrics import Metrics
from controller.serve.paging import API, Cursor, Limit, View, page, there
from controller.serve.ports import Controller, Deliveries, Records

T = TypeVar("T")


class RunRequest(BaseModel):
    """What a manual run is asked with."""

    model_config = ConfigDict(extra="forbid")
    params: dict[str, Any] = Field(default_factory=dict)
    fresh: bool = False
    queue: bool = False


class CancelRequest(BaseModel):
    """How a run is cancelled: `now` leaves out its hooks and finally steps."""

    model_config = ConfigDict(extra="forbid")
    now: bool = False


def create_app(
    controller: Controller, records: Records, metrics: Metrics, deliveries: Deliveries
) -> FastAPI:
    """Return the API of one controller."""
    app = FastAPI(title="Rondel", version=__version__, docs_url=None, redoc_url=None)
    problems.install(app)
    health(app, controller, metrics)
    lists(app, records)
    single(app, records)
    acts(app, controller)
    again.install(app, controller)
    backfill.install(app, controller)
    suspend.install(app, controller)
    cache.install(app, controller, records)
    drain.install(app, controller)
    plan.install(app, controller)
    hooks.install(app, deliveries)
    return app


def health(app: FastAPI, controller: Controller, metrics: Metrics) -> None:
    @app.get("/healthz")
    async def healthz() -> View:
        return {"ok": True, "version": __version__}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        readiness = await controller.readiness()
        content = {"ok": readiness.ok, "checks": dict(readiness.checks)}
        return JSONResponse(content, status_code=200 if readiness.ok else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def exposition() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def lists(app: FastAPI, records: Records) -> None:
    @app.get(f"{API}/sources")
    async def sources() -> View:
        return page([view.source_view(one) for one in await records.read(lambda r: r.sources())])

    @app.get(f"{API}/workflows")
    async def workflows(source: str | None = None, retired: bool = False) -> View:
        found = await records.read(lambda r: r.workflows(source, retired=retired))
        return page([view.workflow_view(one) for one in found])

    @app.get(f"{API}/runs")
    async def runs(
        source: str | None = None,
        workflow: str | None = None,
        phase: Annotated[list[Phase] | None, Query()] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> View:
        before = decode(cursor) if cursor else None
        found = await records.read(
            lambda r: r.runs(
                source=source, workflow=workflow, phases=phase, before=before, limit=limit
            )
        )
        last = found[-1] if len(found) == limit else None
        following = encode(last.created_at, last.id) if last else None
        return page([view.run_view(one) for one in found], following)

    @app.get(f"{API}/events")
    async def events(
        source: str | None = None,
        workflow: str | None = None,
        run: str | None = None,
        after: int | None = None,
        limit: Limit = 100,
    ) -> View:
        found = await records.read(
            lambda r: r.events(source=source, workflow=workflow, run=run, after=after, limit=limit)
        )
        following = str(found[-1].id) if len(found) == limit else None
        return page([view.event_view(one) for one in found], following)


def single(app: FastAPI, records: Records) -> None:
    @app.get(f"{API}/sources/{{name}}")
    async def source(name: str) -> View:
        found, held = await records.read(lambda r: (r.source(name), r.workflows(name)))
        return view.source_view(there(found, f"source {name}"), held)

    @app.get(f"{API}/sources/{{source}}/workflows/{{name}}")
    async def workflow(source: str, name: str) -> View:
        found = await records.read(lambda r: r.workflow(source, name))
        return view.workflow_view(there(found, f"workflow {source}/{name}"))

    @app.get(f"{API}/runs/{{run_id}}")
    async def run(run_id: str) -> View:
        found, steps = await records.read(lambda r: (r.run(run_id), r.steps(run_id)))
        return view.run_view(there(found, f"run {run_id}"), steps)

    @app.get(f"{API}/runs/{{run_id}}/logs")
    async def logs(run_id: str, step: str | None = None, follow: bool = False) -> StreamingResponse:
        found = there(await records.read(lambda r: r.run(run_id)), f"run {run_id}")
        lines: AsyncIterator[str] = follow_log(records, found, step=step, follow=follow)
        return StreamingResponse(lines, media_type="application/x-ndjson")


def acts(app: FastAPI, controller: Controller) -> None:
    @app.post(f"{API}/sources/{{name}}/reconcile", status_code=202)
    async def reconcile(name: str) -> View:
        return {"source": name, "request": not_found(lambda: controller.reconcile(name))}

    @app.get(f"{API}/sources/{{name}}/reconcile/{{request}}")
    async def reconciled(
        name: str, request: int, wait: Annotated[float, Query(ge=0, le=25)] = 0
    ) -> View:
        found = await controller.reconciled(name, request, wait)
        told = view.source_view(found) if found is not None else None
        return {"source": name, "request": request, "answered": told is not None, "status": told}

    @app.post(f"{API}/sources/{{source}}/workflows/{{name}}/runs", status_code=201)
    async def run(
        source: str,
        name: str,
        request: RunRequest,
        idempotency_key: Annotated[str | None, Header()] = None,
    ) -> View:
        made = await controller.run(
            source,
            name,
            request.params,
            fresh=request.fresh,
            queue=request.queue,
            key=idempotency_key,
        )
        return view.run_view(made)

    @app.post(f"{API}/runs/{{run_id}}/cancel", status_code=202)
    async def cancel(run_id: str, request: CancelRequest) -> View:
        if not await controller.cancel(run_id, now=request.now):
            raise HTTPException(409, f"run {run_id} is over, or not this controller's")
        return {"id": run_id}


def not_found(call: Callable[[], T]) -> T:
    try:
        return call()
    except UsageError as error:
        raise HTTPException(404, error.problem) from error


__all__ = ["create_app"]
