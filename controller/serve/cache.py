"""The API's part on kept results of steps."""

from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from controller.errors import UsageError
from controller.model import view
from controller.model.cache import Prune
from controller.model.quantity import parse_duration
from controller.serve.cursor import decode, encode
from controller.serve.paging import API, Cursor, Limit, View, page, there
from controller.serve.ports import Controller, Records


class PruneRequest(BaseModel):
    """Which results to forget; by itself those that have expired."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    source: str | None = None
    workflow: str | None = None
    unused_for: Annotated[str | None, Field(alias="unusedFor", examples=["7d"])] = None
    all: bool = False

    def wish(self) -> Prune:
        """Return it as the model has it. Raises UsageError: no duration."""
        try:
            unused_for = None if self.unused_for is None else parse_duration(self.unused_for)
        except ValueError as error:
            raise UsageError(str(error), where="unusedFor") from error
        return Prune(
            source=self.source,
            workflow=self.workflow,
            unused_for=unused_for,
            everything=self.all,
        )


def install(app: FastAPI, controller: Controller, records: Records) -> None:
    @app.get(f"{API}/cache")
    async def entries(
        source: str | None = None,
        workflow: str | None = None,
        step: str | None = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> View:
        before = decode(cursor) if cursor else None
        found = await records.read(
            lambda r: r.cache_entries(
                source=source, workflow=workflow, step=step, before=before, limit=limit
            )
        )
        last = found[-1] if len(found) == limit else None
        following = encode(last.created_at, last.key) if last else None
        return page([view.cache_view(one) for one in found], following)

    @app.get(f"{API}/cache/{{key}}")
    async def entry(key: str) -> View:
        found = await records.read(lambda r: r.cache_entries(key=key, limit=1))
        exact = next((one for one in found if one.key == key), None)
        return view.cache_view(there(exact, f"result {key}"), whole=True)

    @app.post(f"{API}/cache/prune")
    async def prune(request: PruneRequest) -> View:
        gone = await controller.prune_cache(request.wish())
        return {"dropped": len(gone), "size": sum(one.size for one in gone)}
