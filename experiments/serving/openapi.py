"""The service described as OpenAPI 3.1, at `/openapi.json`."""

from typing import Any

import mlflow

from experiments.serving.bodies import JSON, PICTURES

_NUMBERS = {"type": "number"}
_ROWS = {"type": "array", "minItems": 1, "items": {"type": "array", "minItems": 1, "items": _NUMBERS}}
_IMAGE = {"anyOf": [_ROWS, {"type": "array", "minItems": 1, "items": _ROWS}]}
_BASE64 = {"type": "string", "contentEncoding": "base64", "description": "A picture."}
_B64 = {"type": "object", "properties": {"b64": _BASE64}, "required": ["b64"], "additionalProperties": False}
_LISTS = [{"type": "array", "minItems": 1, "items": item} for item in (_IMAGE, _BASE64, _B64)]
_IMAGES = {"anyOf": _LISTS, "description": "Images (N, H, W) or (N, H, W, C) of any size, or pictures in base64."}
_CELL = {"anyOf": [_NUMBERS, _BASE64, _IMAGE]}
_TABLE = {
    "type": "object",
    "properties": {
        "columns": {"type": "array"},
        "index": {"type": "array"},
        "data": {"type": "array", "minItems": 1, "items": {"type": "array", "minItems": 1, "items": _CELL}},
    },
    "required": ["data"],
    "description": "A row is an image: one cell, or a cell for each of its values, row by row.",
}
_REFUSAL = {
    "type": "object",
    "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
    "required": ["error_code", "message"],
}
_WHY = {
    400: "the body is not what is asked for",
    401: "the token is missing or wrong",
    403: "the Host header, or the page that asks, is not of this server",
    405: "the path has no such method",
    408: "the body did not arrive in time",
    413: "the body, or what is in it, is too large",
    415: "the content type is not known",
    503: "too many requests wait; Retry-After says when to ask again",
}


def describe(about: dict[str, Any]) -> dict[str, Any]:
    """Returns the document. `about`: what `/model` says."""
    forms = [
        {"type": "object", "properties": {name: schema, "params": {"type": "object"}}, "required": [name]}
        for name, schema in (("instances", _IMAGES), ("inputs", _IMAGES), ("dataframe_split", _TABLE))
    ]
    content: dict[str, Any] = {JSON: {"schema": {"oneOf": forms}}}
    content |= {kind: {"schema": {"type": "string", "format": "binary"}} for kind in PICTURES}
    invocations = {
        "summary": "Labels and probabilities of images",
        "operationId": "invocations",
        "requestBody": {"required": True, "content": content},
        "responses": {"200": _json("the answers, in the order of the images", _predictions(about)), **_refusals()},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": about["name"], "version": mlflow.__version__},
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
        "paths": {
            "/invocations": {"post": invocations},
            "/ping": {"get": _text("whether the server answers")},
            "/health": {"get": _text("the same as /ping")},
            "/version": {"get": _text("MLflow's version")},
            "/model": {"get": _get("the model", _json("what the model takes and answers", {"type": "object"}))},
        },
    }


def _predictions(about: dict[str, Any]) -> dict[str, Any]:
    classes = len(about["class_names"])
    row = {"type": "array", "items": {"type": ["number", "null"]}, "minItems": classes, "maxItems": classes}
    fields = {
        "label": {"type": "array", "items": {"type": ["integer", "string"]}},
        "label_index": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": classes - 1}},
        "probabilities": {"type": "array", "items": row},
        "class_names": {"const": about["class_names"]},
    }
    answers = {"type": "object", "properties": fields, "required": list(fields)}
    return {"type": "object", "properties": {"predictions": answers}, "required": ["predictions"]}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _text(summary: str) -> dict[str, Any]:
    return _get(summary, {"description": summary, "content": {"text/plain": {"schema": {"type": "string"}}}})


def _get(summary: str, answer: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": answer, **_refusals()}}


def _refusals() -> dict[str, Any]:
    return {str(status): _json(why, _REFUSAL) for status, why in _WHY.items()}
