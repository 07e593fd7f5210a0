"""Errors as RFC 9457 problem documents."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from controller.errors import RefusedError, RondelError, StalledError, TransientError, UsageError

MEDIA_TYPE = "application/problem+json"


def problem(status: int, title: str, detail: str, **more: str) -> JSONResponse:
    """Return a problem document; `more` are further members of it."""
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return JSONResponse(content, status_code=status, media_type=MEDIA_TYPE)


def status_of(error: RondelError) -> int:
    match error:
        case UsageError():
            return 422
        case RefusedError() | StalledError():
            return 409
        case TransientError():
            return 503
        case _:
            return 500


def install(app: FastAPI) -> None:
    """Have every error of the API answered as a problem."""

    async def rondel(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RondelError)  # noqa: S101 - registered for it alone
        more = {"where": error.where, "remedy": error.remedy}
        shown = {name: text for name, text in more.items() if text}
        return problem(status_of(error), type(error).__name__, error.problem, **shown)

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for it alone
        answer = problem(error.status_code, "HTTP error", str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it alone
        told = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
        )
        return problem(422, "Invalid request", told)

    async def defect(_: Request, __: Exception) -> JSONResponse:
        return problem(500, "Internal error", "the controller failed at this; its log says why")

    app.add_exception_handler(Exception, defect)
    app.add_exception_handler(RondelError, rondel)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
