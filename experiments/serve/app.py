"""HTTP around a Service: POST /synthesize gives a WAV; GET tells of it. Errors are one line.

POST /v1/audio/speech (experiments.serve.speech_api) is the same in the form that other programs speak.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import os
from collections.abc import Callable, Mapping
from typing import Any

import soundfile
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from engine.contract import ConfigError, InvalidRequest, SynthesisRequest
from experiments.common.cli import one_line
from experiments.serve.counters import CONTENT_TYPE, ServiceCounters
from experiments.serve.service import Closed, QueueFull, Service, Spoken
from experiments.serve.speech_api import MOST_CHARS, PREFIX, api_error, request_by, speech_router
from experiments.workload.voices import Voice
from metrics.parts.facts import Facts
from metrics.speed.memory import read_memory

QUEUE_S, SERVICE_S, BATCH = "X-F5-Queue-S", "X-F5-Service-S", "X-F5-Batch"
FRAMES, CHUNKS, EVALS = "X-F5-Frames", "X-F5-Chunks", "X-F5-Evals"


class Speech(BaseModel):
    """The body of POST /synthesize. voice: an id of the `reference` group, the first one by default.

    utterance_id, with seed and frames, keys the noise: the same three give the same audio.
    """

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=MOST_CHARS)
    voice: str | None = None
    utterance_id: str = Field(default="request", min_length=1, max_length=100)
    seed: int = Field(default=0, ge=0, lt=2**63)
    speed_ratio: float = Field(default=1.0, ge=0.3, le=3.0)


def create_app(
    service: Service,
    voices: Mapping[str, Voice],
    check_text: Callable[[str], None],
    facts: Callable[[], Facts],
    environment: Mapping[str, object],
    counters: ServiceCounters,
) -> FastAPI:
    """check_text raises ConfigError for a text that the model cannot speak. environment: what the engine runs on."""
    app = FastAPI(title="f5bench", redoc_url=None)
    app.include_router(speech_router(service, service.facts.model, voices, check_text))

    @app.post("/synthesize")
    async def synthesize(speech: Speech) -> Response:
        check_text(speech.text)
        spoken = await asyncio.wrap_future(service.submit(_request(speech, voices)))
        return _wav(spoken)

    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        return {"status": "ok", "pid": os.getpid(), **dataclasses.asdict(service.counts())}

    @app.get("/readyz")
    async def readyz() -> dict[str, Any]:
        return {"status": "ready"}

    @app.get("/facts")
    async def built() -> dict[str, Any]:
        return {**facts(), "batching": dataclasses.asdict(service.rule), "environment": dict(environment)}

    @app.get("/memory")
    async def memory() -> dict[str, Any]:
        return dataclasses.asdict(read_memory())

    @app.get("/metrics")
    def metrics() -> Response:  # on a thread of the server's pool: sensors may take milliseconds
        return Response(counters.exposition(), media_type=CONTENT_TYPE)

    _explain(app)
    return app


class Front:
    """An ASGI application that answers before there is a service: alive at /healthz, not ready (503) anywhere else.

    Once `inner` is set it passes everything on.
    """

    def __init__(self) -> None:
        self.inner: FastAPI | None = None
        self._starting = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

        @self._starting.get("/healthz")
        async def healthz() -> dict[str, Any]:
            return {"status": "starting", "pid": os.getpid()}

        @self._starting.exception_handler(404)
        async def unready(request: Request, error: Exception) -> JSONResponse:
            return JSONResponse({"error": "the service is starting; try again later"}, 503, {"Retry-After": "1"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.inner or self._starting)(scope, receive, send)


def _explain(app: FastAPI) -> None:
    """Errors as {"error": "one line"}: 422 for the caller's mistake, 503 when busy, 500 when the engine broke."""

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
        return _said(request, f"{where}: {first['msg']}", 422)

    @app.exception_handler(ConfigError)
    async def refused(request: Request, error: ConfigError) -> JSONResponse:
        return _said(request, error, 422)

    @app.exception_handler(QueueFull)
    async def full(request: Request, error: QueueFull) -> JSONResponse:
        return _said(request, "the queue is full; try again later", 503, {"Retry-After": "1"})

    @app.exception_handler(Closed)
    async def closed(request: Request, error: Closed) -> JSONResponse:
        return _said(request, "the service is shutting down", 503)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return _said(request, f"{type(error).__name__}: {error}", 500)


def _said(request: Request, message: object, status: int, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """One line, in the form of the part of the service that was asked."""
    line = one_line(message)
    if request.url.path.startswith(PREFIX):
        return api_error(line, status, headers)
    return JSONResponse({"error": line}, status, dict(headers or {}))


def _request(speech: Speech, voices: Mapping[str, Voice]) -> SynthesisRequest:
    name = next(iter(voices)) if speech.voice is None else speech.voice
    if name not in voices:
        raise InvalidRequest("voice", name, f"must be one of {', '.join(voices)}", "see /facts")
    made = request_by(voices[name], speech.text, speech.speed_ratio)
    return dataclasses.replace(made, utterance_id=speech.utterance_id, seed=speech.seed)


def _wav(spoken: Spoken) -> Response:
    """Float32 WAV: what the engine made, not rounded."""
    synthesis, file = spoken.synthesis, io.BytesIO()
    soundfile.write(file, synthesis.audio_S, synthesis.sample_rate_hz, format="WAV", subtype="FLOAT")
    headers = {
        QUEUE_S: f"{spoken.queue_s:.6f}",
        SERVICE_S: f"{spoken.service_s:.6f}",
        BATCH: str(spoken.batch_size),
        FRAMES: str(len(synthesis.mel_ND)),
        CHUNKS: str(synthesis.num_chunks),
        EVALS: str(synthesis.num_evals),
    }
    return Response(file.getvalue(), media_type="audio/wav", headers=headers)
