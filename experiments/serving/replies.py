"""What the server sends back: answers in the form of MLflow's scoring server, and refusals."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

_CODES = {
    **{400: "BAD_REQUEST", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "ENDPOINT_NOT_FOUND"},
    **{405: "METHOD_NOT_ALLOWED", 408: "DEADLINE_EXCEEDED", 413: "REQUEST_TOO_LARGE", 415: "UNSUPPORTED_MEDIA_TYPE"},
    **{500: "INTERNAL_ERROR", 503: "TEMPORARILY_UNAVAILABLE"},
}
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}


def refusal(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """Returns an error as MLflow writes it: `error_code` and `message`."""
    content = json.dumps({"error_code": _CODES.get(status, "BAD_REQUEST"), "message": message})
    return Response(content, status, {**_HEADERS.get(status, {}), **(headers or {})}, "application/json")


def predictions(answers: Sequence[NDArray[Any]], class_names: Sequence[str]) -> bytes:
    """Returns labels (N,), their places in `class_names` (N,), and probabilities (N, K) as JSON.

    A probability that is not finite, which JSON does not have, becomes null.
    """
    label, label_index, probabilities = answers
    rows = probabilities.tolist()
    if not np.isfinite(probabilities).all():
        rows = [[value if math.isfinite(value) else None for value in row] for row in rows]
    answer = {"label": label.tolist(), "label_index": label_index.tolist(), "probabilities": rows}
    return json.dumps({"predictions": {**answer, "class_names": class_names}}).encode()
