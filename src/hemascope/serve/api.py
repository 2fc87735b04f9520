"""The web service: pictures in, answers out, for many clients at a time."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from hemascope.data import Images, decode
from hemascope.errors import InputError
from hemascope.machine import cores
from hemascope.models import folder_of
from hemascope.resize import central_square, resize
from hemascope.runtime import PURPOSE, Answers, Model
from hemascope.serve import telemetry
from hemascope.serve.answers import ModelAbout, Predictions, Problem, answered, unread
from hemascope.serve.batching import Batcher, FullError
from hemascope.serve.bodies import Body, Held, RefusedError, Upload, read_body
from hemascope.serve.guard import LOOPBACK_NAMES, Gate, Guard
from hemascope.serve.limits import Limits
from hemascope.serve.pages import add_pages
from hemascope.trust.verdict import OUTLIER, kind_of, verdict_of
from hemascope.version import __version__

# How many pictures of one request a thread decodes at a time: handing over one costs a tenth of decoding it.
_TASK = 8
# How many the model sees at once: beyond some sixteen nothing is gained, and what is left goes to another thread.
_BATCH = 32
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    "pictures": {
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"},
                    }
                },
                "required": ["pictures"],
                "additionalProperties": False,
            }
        },
        **{f"image/{kind}": {"schema": {"type": "string", "format": "binary"}} for kind in ("png", "jpeg", "tiff")},
    },
}
_REFUSALS: dict[int, str] = {
    400: "The body is cut off or no form.",
    401: "A token is needed.",
    403: "Asked under a foreign name, or from a page of another site.",
    408: "The body did not arrive in time.",
    413: "Too many bytes or files.",
    415: "Neither a form nor a picture.",
    422: "No picture that can be decoded, or a wrong option.",
    429: "No room for more pictures now; Retry-After says when.",
}
_log = logging.getLogger("hemascope.serve")


class Service:
    """A model, the threads that work for it, and what is counted.

    model: works on as many batches at a time as its threads leave cores for. name: under which it was asked for. crop:
    the side in pixels of the central square to use of each picture, as in `hemascope predict`; without it the largest
    there is.
    """

    def __init__(self, model: Model, name: str, limits: Limits, crop: int | None = None) -> None:
        self.model, self.name, self.limits, self.crop = model, name, limits, crop
        self.sha256 = hashlib.sha256(model.path.read_bytes()).hexdigest()
        self.verdict = verdict_of(model)
        self.held = Held(limits.bytes_together)
        self.requests = telemetry.Counter("hemascope_requests_total", "Answers by status.", "path", "status")
        self.seconds = telemetry.Histogram(
            "hemascope_predict_seconds", "Seconds from a request's header to its answer.", telemetry.SECONDS
        )
        self.pictures = telemetry.Counter("hemascope_pictures_total", "Pictures by what became of them.", "outcome")
        self.labels = telemetry.Counter("hemascope_labels_total", "Answered pictures by class.", "label")
        self.abstained = telemetry.Counter(
            "hemascope_abstained_total", "Answered pictures whose answer should not be trusted."
        )
        self.reasons = telemetry.Counter("hemascope_reasons_total", "Why not, by kind.", "kind")
        self.outliers = telemetry.Counter(
            "hemascope_outliers_total", "Answered pictures that are like nothing the model was trained on."
        )
        self.batches = telemetry.Histogram("hemascope_batch_pictures", "Pictures in a batch.", telemetry.PICTURES)
        self.model_seconds = telemetry.Counter("hemascope_model_seconds_total", "Seconds that the model worked.")
        self._pool = ThreadPoolExecutor(max(2, min(4, cores())), "hemascope-decode")
        workers = max(1, cores() // (model.threads or cores()))
        self._batcher = Batcher(
            model.answers,
            queue=limits.queue,
            patience=limits.patience,
            batch=_BATCH,
            workers=workers,
            rate=_rate_of(model, workers),
            watch=self._watch_batch,
        )
        self.metrics: list[telemetry.Metric] = [
            self.requests,
            self.seconds,
            self.pictures,
            self.labels,
            self.abstained,
            self.reasons,
            self.outliers,
            self.batches,
            self.model_seconds,
            telemetry.Gauge("hemascope_queue_pictures", "Pictures accepted and not answered.", self._waiting),
            telemetry.Gauge("hemascope_queue_room", "Pictures that may be accepted at a time.", self._room),
            telemetry.Gauge("hemascope_upload_bytes", "Bytes of bodies that are held.", lambda: self.held.now),
            telemetry.Info(
                "hemascope_model_info",
                "The model.",
                {"name": name, "sha256": self.sha256, "hemascope": __version__},
            ),
        ]

    def close(self) -> None:
        """Answer what was accepted, then end the threads."""
        self._batcher.close()
        self._pool.shutdown()

    def about(self) -> dict[str, Any]:
        """What /v1/model says."""
        limits = self.limits
        return {
            "name": self.name,
            "sha256": self.sha256,
            "purpose": self.model.metadata.get("purpose", PURPOSE),
            "classes": list(self.model.class_names),
            "picture_size": self.model.image_size,
            "crop": self.crop,
            "heatmap": self.model.explains,
            "thresholds": self.verdict.thresholds(),
            "metadata": self.model.metadata,
            "limits": {
                "files": limits.files,
                "bytes_each": limits.bytes_each,
                "bytes_request": limits.bytes_request,
                "pixels": limits.pixels,
            },
            "version": __version__,
        }

    async def predict(self, request: Request, heatmap: bool) -> list[dict[str, Any]]:
        """What is said of each picture of a request. Raises RefusedError or FullError."""
        if heatmap and not self.model.explains:
            raise RefusedError(422, "this model gives no heat maps; ask without heatmap.")
        # Before the body is read, as the time for that would be lost.
        self._batcher.check()
        body = Body(self.held)
        try:
            uploads = await read_body(request, self.limits, body)
            self._batcher.reserve(len(uploads))
            try:
                return await self._answers_to(uploads, heatmap)
            finally:
                self._batcher.release(len(uploads))
        finally:
            body.close()

    async def _answers_to(self, uploads: list[Upload], heatmap: bool) -> list[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        parts = await asyncio.gather(
            *(
                loop.run_in_executor(self._pool, self._decoded, uploads[start : start + _TASK])
                for start in range(0, len(uploads), _TASK)
            )
        )
        pictures = [picture for part in parts for picture in part]
        good = [picture for picture in pictures if not isinstance(picture, str)]
        told: list[dict[str, Any]] = []
        if good:
            images = np.stack(good)
            answers = await asyncio.wrap_future(self._batcher.submit(images, heatmap))
            why_not = await loop.run_in_executor(self._pool, self.verdict.why_not, answers, images)
            kept = [
                upload.name for upload, picture in zip(uploads, pictures, strict=True) if not isinstance(picture, str)
            ]
            told = self._told(kept, answers, why_not)
        rows = iter(told)
        return [
            unread(upload.name, picture) if isinstance(picture, str) else next(rows)
            for upload, picture in zip(uploads, pictures, strict=True)
        ]

    def _told(self, names: list[str], answers: Answers, why_not: list[list[str]]) -> list[dict[str, Any]]:
        told = answered(names, self.model.class_names, answers, why_not)
        for picture, reasons in zip(told, why_not, strict=True):
            kinds = {kind_of(reason) for reason in reasons}
            self.labels.add(picture["label"])
            for kind in kinds:
                self.reasons.add(kind)
            self.abstained.add(count=bool(kinds))
            self.outliers.add(count=OUTLIER in kinds)
        return told

    def _decoded(self, uploads: list[Upload]) -> list[Images | str]:
        """For each picture its pixels, uint8 (side, side, 3), or why there are none."""
        return [self._decoded_one(upload.content) for upload in uploads]

    def _decoded_one(self, content: bytes) -> Images | str:
        try:
            # Cut and resized as `hemascope predict` does it, so that both give the same answer.
            square = central_square(decode(content, self.limits.pixels)[None], self.crop)
            return np.ascontiguousarray(resize(square, self.model.image_size)[0])
        except InputError as error:
            return str(error)

    def _watch_batch(self, pictures: int, seconds: float) -> None:
        self.batches.observe(pictures)
        self.model_seconds.add(count=seconds)

    def _waiting(self) -> float:
        return self._batcher.waiting

    def _room(self) -> float:
        return self._batcher.room


def _rate_of(model: Model, workers: int) -> float:
    """How many pictures a second some threads answer together in whole batches, told by pictures that are black.

    Without it the first burst of requests would fill a queue that takes longer than anybody waits.
    """
    black = np.zeros((_BATCH, model.image_size, model.image_size, 3), np.uint8)
    # The first one allocates what all others use again.
    model.answers(black[:1])
    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(model.answers, [black] * workers))
    return workers * _BATCH / max(time.perf_counter() - started, 1e-6)


def make_app(
    model: Model,
    *,
    name: str | None = None,
    limits: Limits | None = None,
    token: str | None = None,
    hosts: frozenset[str] | None = LOOPBACK_NAMES,
    crop: int | None = None,
) -> FastAPI:
    """The service as an ASGI application.

    name: what the model is called; by default after its folder. token: what clients must bring, if anything. hosts: the
    names that the service answers to, without ports; None for any. crop: as in `hemascope predict`.
    """
    service = Service(model, name or folder_of(model.path).name or model.path.stem, limits or Limits(), crop)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="hemascope",
        version=__version__,
        description=f"Names single blood cells on pictures, and says when not to believe it. {PURPOSE}",
        # The usual documentation pages load scripts from another site.
        docs_url=None,
        redoc_url=None,
        lifespan=life,
    )
    app.state.service = service
    _add_errors(app)
    _add_routes(app, service)
    add_pages(app, "index.html")
    known = {getattr(route, "path", "") for route in app.routes}

    def watch(method: str, path: str, status: int) -> None:
        service.requests.add(path if path in known else "other", str(status))

    gate = Gate(hosts, token, frozenset({"/", "/healthz", "/openapi.json"}))
    app.add_middleware(Guard, gate=gate, watch=watch)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"description": about, "model": Problem} for status, about in _REFUSALS.items()
    }

    @app.post(
        "/v1/predict",
        response_model=Predictions,
        responses=refusals,
        openapi_extra={"requestBody": _BODY},
        summary="Name the cell on each picture",
    )
    async def predict(
        request: Request, heatmap: bool = Query(False, description="Whether to give heat maps, too.")
    ) -> Response:
        started = time.perf_counter()
        try:
            told = await service.predict(request, heatmap)
        except FullError as error:
            raise RefusedError(429, str(error), error.seconds) from error
        bad = sum(picture["error"] is not None for picture in told)
        service.pictures.add("answered", count=len(told) - bad)
        service.pictures.add("unreadable", count=bad)
        if bad == len(told):
            first = str(told[0]["error"])
            sentence = first if bad == 1 else f"none of the {bad} pictures can be decoded; the first: {first}"
            return JSONResponse({"error": sentence, "pictures": told}, 422)
        model = {"name": service.name, "sha256": service.sha256}
        service.seconds.observe(time.perf_counter() - started)
        return JSONResponse({"model": model, "purpose": PURPOSE, "pictures": told})

    few: dict[int | str, dict[str, Any]] = {status: refusals[status] for status in (401, 403)}

    @app.get("/v1/model", response_model=ModelAbout, responses=few, summary="What answers, and within which bounds")
    async def about() -> Response:
        return JSONResponse(service.about())

    @app.get("/healthz", responses={403: refusals[403]}, summary="Whether the service runs")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses=few,
        summary="What was counted, as Prometheus reads it",
    )
    async def metrics() -> Response:
        return Response(telemetry.text_of(service.metrics), headers={"content-type": telemetry.CONTENT_TYPE})


def _add_errors(app: FastAPI) -> None:
    """Every refusal is one sentence under "error"."""

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        headers = {}
        if error.retry_after is not None:
            headers["retry-after"] = str(math.ceil(error.retry_after))
        # Whoever sends so slowly is not waited for; the rest of any other body is read and forgotten.
        if error.status == 408:
            headers["connection"] = "close"
        return JSONResponse({"error": str(error)}, error.status, headers)

    @app.exception_handler(HTTPException)
    async def not_found(request: Request, error: HTTPException) -> Response:
        sentence = {404: "there is nothing under this address.", 405: "this address does not take that method."}
        return JSONResponse(
            {"error": sentence.get(error.status_code, str(error.detail))}, error.status_code, error.headers
        )

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = " ".join(str(part) for part in first["loc"])
        return JSONResponse({"error": f"{where}: {first['msg']}."}, 422)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        _log.error("a request could not be answered", exc_info=error)
        return JSONResponse({"error": "something went wrong here; the log of the service says what."}, 500)
