"""The service: MLflow's scoring protocol for the images of one model, its description, and a page to try it."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from experiments.pages.page import render
from experiments.serving.batching import Answers, Batcher, Images
from experiments.serving.bodies import Bodies, Limits, Refused
from experiments.serving.loaded import LoadedModel
from experiments.serving.openapi import describe
from experiments.serving.replies import predictions, refusal
from lightning_modules.log import LOG

_PAGE = Path(__file__).parent / "templates" / "serve.html"
_SMALL = 2**16  # bytes
_READERS = 2  # threads
_SAFE = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
_OF_PAGE = {**_SAFE, "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"}


class Service:
    """Answers requests with one model; `app` is the ASGI app.

    `most_images`: of a batch; with 1, each request is a batch. `wait`: seconds that a request waits for others at most.
    """

    def __init__(self, model: LoadedModel, limits: Limits, *, most_images: int = 64, wait: float = 0.002) -> None:
        self._model, self._limits = model, limits
        self._bodies = Bodies(model, limits)
        self._class_names = model.class_names
        self._batcher = Batcher(self._answer, most_images=most_images, wait=wait)
        self._readers = ThreadPoolExecutor(_READERS, "reader")
        self._open_requests = self._open_bytes = 0
        self.app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/ping", self._ping),
                Route("/health", self._ping),
                Route("/version", self._version),
                Route("/model", self._about),
                Route("/openapi.json", self._openapi),
                Route("/favicon.ico", self._no_icon),
                Route("/invocations", _Endpoint(self._invocations), methods=["POST"]),
            ],
            exception_handlers={HTTPException: _refuse, Exception: _fail},
        )

    def warm_up(self) -> None:
        """Runs the model once for one image and once for some: torch prepares itself on the first calls."""
        for count in (1, 2):
            self._answer(np.zeros((count, *self._model.size, self._model.channels), self._model.type))

    def close(self) -> None:
        """Ends the threads."""
        self._batcher.close()
        self._readers.shutdown()

    def _answer(self, images: Images) -> Answers:
        answer = self._model.answer_checked(images)
        return answer["label"], answer["label_index"], answer["probabilities"]

    async def _invocations(self, scope: Scope, receive: Receive) -> Response:
        headers = dict(scope["headers"])
        try:
            size = self._size_of(headers.get(b"content-length"))
            with self._room_for(size):
                body = await self._read(receive, size)
                content_type = headers.get(b"content-type", b"").decode("latin-1")
                answers = await self._batcher(await self._images(content_type, body))
        except Refused as refused:
            return refusal(refused.status, refused.message)
        return Response(predictions(answers, self._class_names), media_type="application/json")

    async def _images(self, content_type: str, body: bytes) -> Images:
        """Reads beside the event loop, which answers others meanwhile, what takes long: large bodies and pictures."""
        loop = asyncio.get_running_loop()
        if len(body) <= _SMALL:
            found = self._bodies.read(content_type, body)
        else:
            found = await loop.run_in_executor(self._readers, self._bodies.read, content_type, body)
        if isinstance(found, list):
            found = await loop.run_in_executor(self._readers, self._bodies.decode, found)
        return found

    def _size_of(self, content_length: bytes | None) -> int:
        """Returns the size of a body, or the largest allowed one if the request does not say it."""
        most = self._limits.body_bytes
        return most if content_length is None else int(content_length)  # the server has checked that it is a number

    @contextmanager
    def _room_for(self, size: int) -> Iterator[None]:
        """Counts a request that waits for its answer. Raises Refused if too many do."""
        limits = self._limits
        size = min(size, limits.body_bytes)
        if self._open_requests >= limits.open_requests or self._open_bytes + size > limits.open_bytes:
            raise Refused(503, "Too many requests are waiting for an answer; ask again later.")
        self._open_requests += 1
        self._open_bytes += size
        try:
            yield
        finally:
            self._open_requests -= 1
            self._open_bytes -= size

    async def _read(self, receive: Receive, size: int) -> bytes:
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await self._read_whole(receive, size)
        except TimeoutError as error:
            raise Refused(408, f"The body was not complete after {self._limits.seconds:.0f} s.") from error

    async def _read_whole(self, receive: Receive, size: int) -> bytes:
        """Reads a body. One that is too large is read, too: most clients read no answer before its end."""
        parts: list[bytes] = []
        count = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refused(400, "The connection was closed before the body was complete.")
            part = message.get("body", b"")
            count += len(part)
            if max(count, size) <= self._limits.body_bytes:
                parts.append(part)
            elif count > 4 * self._limits.body_bytes:
                raise self._too_large()
            else:
                parts.clear()
            if not message.get("more_body"):
                break
        if count > self._limits.body_bytes:
            raise self._too_large()
        return b"".join(parts)

    def _too_large(self) -> Refused:
        return Refused(413, f"The body is too large: up to {self._limits.body_bytes:,} bytes are read.")

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(self._html, headers=_OF_PAGE)

    @cached_property
    def _html(self) -> str:
        return render(_PAGE, {}, connects=True)

    async def _ping(self, request: Request) -> Response:
        return PlainTextResponse("\n")

    async def _version(self, request: Request) -> Response:
        return PlainTextResponse(mlflow.__version__)

    async def _about(self, request: Request) -> Response:
        return JSONResponse(self.about(), headers=_SAFE)

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(describe(self.about()), headers=_SAFE)

    async def _no_icon(self, request: Request) -> Response:
        return Response(status_code=204)

    def about(self) -> dict[str, Any]:
        """Returns what `/model` says: which run's model this is, what it takes, and what it can answer."""
        model, limits = self._model, self._limits
        return {
            "run_id": model.run.run_id,
            "name": model.run.name,
            "class_names": self._class_names,
            "image_shape": [*model.size, model.channels],
            "image_type": str(model.type),
            "limits": {"body_bytes": limits.body_bytes, "images": limits.images, "pixels": limits.pixels},
        }


class _Endpoint:
    """An ASGI app for one path. Starlette's own wrapper of a function costs as much as the rest of a small request."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(scope, receive)
        await response(scope, receive, send)


async def _refuse(request: Request, error: Exception) -> Response:
    """Answers a path or a method that there is not."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}."
    return refusal(error.status_code, message, dict(error.headers or {}))


async def _fail(request: Request, error: Exception) -> Response:
    LOG.error(f"a request failed: {type(error).__name__}: {error}")
    return refusal(500, "The server could not answer; its log says why.")
