"""Reads the images that the body of a request holds: arrays in JSON, or pictures, as they are or in base64."""

import base64
import binascii
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from experiments.serving.loaded import LoadedModel
from lightning_modules.images.layout import ImagesError, channels_last
from lightning_modules.images.pictures import PictureError, count_pixels

JSON = "application/json"
PICTURES = ("image/png", "image/jpeg", "image/webp", "image/bmp", "image/tiff")
FORMS = ("instances", "inputs", "dataframe_split")
_NUMBERS = {"i": "whole numbers", "u": "whole numbers", "f": "numbers", "b": "true and false", "U": "texts"}
_SHOWN = 40  # characters of a wrong value in a message

Pictures = list[bytes]  # the contents of picture files
_T = TypeVar("_T")


class Refused(Exception):
    """A request that is not answered: the status of HTTP, and a sentence that says what is wrong."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may ask for, and all of them together."""

    body_bytes: int = 16 * 2**20
    open_bytes: int = 128 * 2**20  # of the bodies of all requests that wait for an answer
    open_requests: int = 256
    images: int = 10_000  # in a request
    pixels: int = 2**25  # of all images in a request
    seconds: float = 30.0  # until a body is complete


class Bodies:
    """Turns bodies into images (N, H, W, C) that `model` takes. Raises Refused, with a status of 4xx."""

    def __init__(self, model: LoadedModel, limits: Limits) -> None:
        self._model, self._limits = model, limits
        self._size = (*model.size, model.channels)

    def read(self, content_type: str, body: bytes) -> NDArray[Any] | Pictures:
        """Returns images, or pictures that `decode` makes images of: that takes long, also for few bytes."""
        kind, _, options = content_type.partition(";")
        kind = kind.strip().lower()
        if kind == JSON:
            charset = options.lower().partition("charset=")[2].strip(' "')
            if charset not in {"", "utf-8", "utf8"}:
                raise Refused(415, f"JSON is read as UTF-8, but its charset is said to be {_quoted(charset)}.")
            return self._in_json(body)
        if kind in PICTURES:
            return [body]
        known = ", ".join((JSON, *PICTURES))
        raise Refused(415, f"The content type {_quoted(kind)} is not one of {known}.")

    def decode(self, pictures: Pictures) -> NDArray[Any]:
        """Returns pictures as images (N, H, W, C)."""
        self._check_count("The request", len(pictures))
        most = self._limits.pixels
        if len(pictures) > 1 and sum(_each(pictures, count_pixels)) > most:
            raise Refused(413, f"The pictures have more than {most:,} pixels together.")
        images = _each(pictures, lambda picture: self._model.decode(picture, most))
        return np.stack(images).reshape(len(images), *self._model.size, -1)

    def _in_json(self, body: bytes) -> NDArray[Any] | Pictures:
        try:
            document = json.loads(body, parse_constant=_refuse_constant)
        except RecursionError as error:
            raise Refused(400, "The JSON is nested too deeply.") from error
        except ValueError as error:  # also of bytes that are not UTF-8
            raise Refused(400, f"The body is not valid JSON: {error}.") from error
        if not isinstance(document, dict):
            raise Refused(400, f"The JSON must be an object with one of {', '.join(FORMS)}.")
        given = [name for name in FORMS if name in document]
        if len(given) != 1:
            names = ", ".join(given) if given else _quoted(", ".join(document)) if document else "nothing"
            raise Refused(400, f"The JSON object must have exactly one of {', '.join(FORMS)}; it has {names}.")
        if document.get("params"):
            raise Refused(400, "The model takes no params.")
        if unknown := document.keys() - {*FORMS, "params"}:
            raise Refused(400, f"The JSON object has an unknown key: {_quoted(min(unknown))}.")
        (form,) = given
        if form == "dataframe_split":
            return self._rows(document[form])
        return self._values(form, document[form])

    def _rows(self, table: Any) -> NDArray[Any] | Pictures:
        """Reads a table: each row is an image, in one cell or with a cell for each value."""
        form = "dataframe_split"
        rows = table.get("data") if isinstance(table, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
            raise Refused(400, f'{form} must be an object whose "data" is a list of rows.')
        columns = table.get("columns")
        width = len(rows[0]) if rows else 0
        if not all(len(row) == width for row in rows):
            raise Refused(400, f"The rows of {form} differ in length.")
        if columns is not None and (not isinstance(columns, list) or len(columns) != width):
            raise Refused(400, f'The "columns" of {form} must be a list of {width}, the length of its rows.')
        if width == 1:
            return self._values(form, [row[0] for row in rows])
        values = math.prod(self._size)
        if rows and width != values:
            sizes = "×".join(map(str, self._size))
            raise Refused(400, f"The rows of {form} have {width} cells; an image has {values} ({sizes}).")
        table_NV = self._numbers(form, rows, 2)
        return self._checked(form, table_NV.reshape(len(table_NV), *self._size))

    def _values(self, form: str, values: Any) -> NDArray[Any] | Pictures:
        """Reads a list of images: nested lists of numbers, or pictures in base64."""
        if not isinstance(values, list):
            raise Refused(400, f"{form} must be a list of images.")
        if values and isinstance(values[0], str | dict):
            return [_from_base64(form, number, value) for number, value in enumerate(values)]
        return self._checked(form, channels_last(self._numbers(form, values, 3, 4)))

    def _numbers(self, form: str, values: Sequence[Any], *dimensions: int) -> NDArray[Any]:
        """Returns nested lists as an array."""
        self._check_count(form, len(values))
        try:
            array = np.array(values)
        except (ValueError, OverflowError, RecursionError) as error:
            raise Refused(400, f"{form} is not an array: its lists differ in length or depth.") from error
        if array.dtype.kind not in "iuf":
            found = _NUMBERS.get(array.dtype.kind, "other values, or numbers that are too large")
            raise Refused(400, f"{form} must hold numbers; it has {found}.")
        if array.ndim not in dimensions:
            wanted = "(N, H, W) or (N, H, W, C)" if 3 in dimensions else "(N, values)"
            raise Refused(400, f"{form} has shape {_shape(array)}; images need {wanted}.")
        if array.size == 0:
            raise Refused(400, f"{form} has shape {_shape(array)}: there is no value in it.")
        return array

    def _checked(self, form: str, images_NHWC: NDArray[Any]) -> NDArray[Any]:
        try:
            return self._model.checked(images_NHWC)
        except ImagesError as error:
            raise Refused(400, f"{form} {error}.") from error

    def _check_count(self, form: str, count: int) -> None:
        if count == 0:
            raise Refused(400, f"{form} has no image.")
        if count > self._limits.images:
            raise Refused(413, f"{form} has {count:,} images; a request has up to {self._limits.images:,}.")


def _each(pictures: Pictures, use: Callable[[bytes], _T]) -> list[_T]:
    """Returns what `use` returns for each picture. Raises Refused, with its number, if one cannot be used."""
    found: list[_T] = []
    for picture in pictures:
        try:
            found.append(use(picture))
        except PictureError as error:
            which = f"Picture {len(found)}" if len(pictures) > 1 else "The picture"
            raise Refused(400, f"{which} {error}.") from error
    return found


def _from_base64(form: str, number: int, value: Any) -> bytes:
    """Returns the bytes of a text in base64, of a data URL, or of {"b64": text} as in TensorFlow Serving."""
    text = value.get("b64") if isinstance(value, dict) and value.keys() == {"b64"} else value
    if not isinstance(text, str):
        raise Refused(400, f'Image {number} of {form} must be a picture in base64, as a text or as {{"b64": text}}.')
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(400, f"Image {number} of {form} is not base64.") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _shape(array: NDArray[Any]) -> str:
    return f"({', '.join(map(str, array.shape))})"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
