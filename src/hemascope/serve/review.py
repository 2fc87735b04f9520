"""The review page: what an audit points at, and a spot check, decided on by keys; on this machine alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.runtime import PURPOSE
from hemascope.serve.desk import Decision, Desk, Item, SpotDesk
from hemascope.serve.guard import Gate, Guard
from hemascope.serve.pages import add_pages
from hemascope.version import __version__

# A page of another site cannot send it without being asked first whether it may, which it may not.
_OWN_HEADER = "x-hemascope-review"


class Decided(BaseModel):
    """A decision on a picture, or its end (null)."""

    key: str
    decision: str | None
    label: str = ""


class Named(BaseModel):
    """What a person calls a picture of the spot check, or that it is not said after all (null)."""

    key: str
    label: str | None


def make_review(cells: Cells, items: list[Item], desk: Desk | None, spot: SpotDesk | None) -> FastAPI:
    """The review page as an ASGI application.

    cells: whose pictures are shown, and no others. items: what is to be decided on. desk: keeps the decisions; None
    where there is nothing to decide. spot: the spot check, if there is one.
    """
    app = FastAPI(title="hemascope review", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    keys = {picture.key for item in items for picture in item.pictures}

    def progress() -> dict[str, Any]:
        return {
            "decisions": {} if desk is None else {key: made._asdict() for key, made in desk.decided.items()},
            "spot": None if spot is None else spot.state(),
        }

    @app.get("/v1/review")
    def everything() -> Response:
        return JSONResponse(
            {
                "source": cells.source,
                "classes": list(cells.class_names),
                "items": [asdict(item) for item in items],
                "file": None if desk is None else str(desk.path),
                "spot_file": None if spot is None else str(spot.path),
                "purpose": PURPOSE,
                **progress(),
            }
        )

    @app.get("/v1/review/pictures/{row}")
    def picture(row: int) -> Response:
        if not 0 <= row < len(cells):
            raise HTTPException(404, "there is no such picture.")
        import cv2

        pixels = np.asarray(cells.images[np.array([row])])[0]
        png = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
        return Response(png, media_type="image/png", headers={"cache-control": "private, max-age=3600"})

    @app.post("/v1/review/decisions")
    def decide(made: Decided) -> Response:
        if desk is None or made.key not in keys:
            raise InputError(f"{made.key[:40]} is none of the pictures that are to be decided on.")
        desk.decide(made.key, None if made.decision is None else Decision(made.decision, made.label))
        return JSONResponse(progress())

    @app.post("/v1/review/undo")
    def undo() -> Response:
        key = None if desk is None else desk.undo()
        return JSONResponse({"key": key, **progress()})

    @app.post("/v1/review/spot")
    def name(named: Named) -> Response:
        if spot is None:
            raise InputError("there is no spot check here.")
        spot.name(named.key, named.label)
        return JSONResponse(progress())

    _add_errors(app)
    add_pages(app, "review.html")
    app.add_middleware(_OwnPageOnly)
    app.add_middleware(Guard, gate=Gate())
    return app


class _OwnPageOnly:
    """Refuses what changes something and does not come from the review page itself."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
            names = {name for name, _ in scope["headers"]}
            if _OWN_HEADER.encode() not in names:
                refused = JSONResponse({"error": f"the header {_OWN_HEADER} is missing; use the review page."}, 403)
                await refused(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(InputError)
    async def refused(request: Request, error: InputError) -> Response:
        return JSONResponse({"error": str(error)}, 422)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return JSONResponse({"error": "the request lacks a field or has one of another kind."}, 422)

    @app.exception_handler(HTTPException)
    async def missing(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(OSError)
    async def unwritten(request: Request, error: OSError) -> Response:
        sentence = f"the decision could not be saved ({error.strerror or error}); make room or check your rights."
        return JSONResponse({"error": sentence}, 500)
