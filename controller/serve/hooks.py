"""Webhooks in: `POST /hooks/{receiver}`. Signed or refused, and a refusal never says why."""

import asyncio

from fastapi import FastAPI, HTTPException, Request

from controller.serve.paging import View
from controller.serve.ports import Deliveries, Outcome

LARGEST = 1 << 20  # bytes of a body
BODY_SECONDS = 30.0


def install(app: FastAPI, deliveries: Deliveries) -> None:
    @app.post("/hooks/{receiver}", status_code=202)
    async def hook(receiver: str, request: Request) -> View:
        peer = request.client.host if request.client else ""
        if not deliveries.admits(peer):
            raise HTTPException(429, "too many deliveries; try later", {"Retry-After": "10"})
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await bounded(request)
        except TimeoutError as error:
            raise HTTPException(408, "its body took too long") from error
        headers = {name.lower(): value for name, value in request.headers.items()}
        match await deliveries.accept(receiver, headers, body):
            case Outcome.REFUSED:
                raise HTTPException(401, "no such receiver, or its signature doesn't hold")
            case Outcome.REPEATED:
                raise HTTPException(409, "this delivery was taken before")
            case outcome:
                return {"receiver": receiver, "outcome": outcome.value}


async def bounded(request: Request) -> bytes:
    """Return the body; more than `LARGEST` is not read."""
    told = request.headers.get("content-length", "0")
    if told.isdecimal() and int(told) > LARGEST:
        raise too_large()
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            raise too_large()
    return bytes(body)


def too_large() -> HTTPException:
    return HTTPException(413, f"a delivery has {LARGEST} bytes at most")
