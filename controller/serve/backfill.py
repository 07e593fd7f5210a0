"""The API's part on backfills: runs for the slots of a span of time."""

from typing import Annotated

from fastapi import FastAPI, Header, Response
from pydantic import BaseModel, ConfigDict, Field

from controller import ids
from controller.model import view
from controller.reconcile.backfill import LIMIT, Wish, backfill_id
from controller.serve.paging import API, View
from controller.serve.ports import Controller


class BackfillRequest(BaseModel):
    """Which slots to fill: those in [from, to) of all schedules, or of one; and how many at most.

    A date, or a time without a zone, is in the schedule's zone.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    begin: Annotated[str, Field(alias="from", examples=["2026-11-01"])]
    end: Annotated[str, Field(alias="to", examples=["2026-11-08T00:00:00Z"])]
    schedule: str | None = None
    limit: int = LIMIT
    dry_run: Annotated[bool, Field(alias="dryRun")] = False

    def wish(self, key: str) -> Wish:
        return Wish(
            begin=self.begin, end=self.end, schedule=self.schedule, limit=self.limit, key=key
        )


class CancelBackfillRequest(BaseModel):
    """How its runs are cancelled: `now` leaves out their hooks and finally steps."""

    model_config = ConfigDict(extra="forbid")
    now: bool = False


def install(app: FastAPI, controller: Controller) -> None:
    @app.post(f"{API}/sources/{{source}}/workflows/{{name}}/backfills", status_code=201)
    async def backfill(
        source: str,
        name: str,
        request: BackfillRequest,
        response: Response,
        idempotency_key: Annotated[str | None, Header()] = None,
    ) -> View:
        wish = request.wish(idempotency_key or ids.nonce())
        runs, created = await controller.backfill(source, name, wish, dry_run=request.dry_run)
        if not created:
            response.status_code = 200
        return {
            "id": None if request.dry_run or not runs else backfill_id(source, name, wish),
            "source": source,
            "workflow": name,
            "dryRun": request.dry_run,
            "created": created,
            "slots": [
                {
                    "time": view.time(run.scheduled_time),
                    "schedule": run.schedule,
                    "timeZone": run.time_zone,
                    "run": None if request.dry_run else run.id,
                }
                for run in runs
            ],
        }

    @app.post(f"{API}/backfills/{{backfill_id}}/cancel", status_code=202)
    async def cancel(backfill_id: str, request: CancelBackfillRequest) -> View:
        cancelled = await controller.cancel_backfill(backfill_id, now=request.now)
        return {"id": backfill_id, "cancelled": cancelled}
