"""Labels and probabilities of pictures and arrays, by the model in this folder. It needs no other project.

    python predict.py photo.png images.npy
    python predict.py --model program.pt2 images.npy

Needs numpy; Pillow for pictures; torch and safetensors for model.safetensors, torch for program.pt2 and int8.pt2,
onnxruntime for model.onnx. From Python: `predict.load("model.safetensors")` returns the function that does the work.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Shapes: N images, H x W pixels, C channels, K classes.
Answer = Callable[[NDArray[Any]], NDArray[Any]]

_HERE = Path(__file__).resolve().parent
_FILES = ("model.safetensors", "program.pt2", "int8.pt2", "model.onnx")  # the first that is there is used
_AT_ONCE = 250  # images


def facts() -> dict[str, Any]:
    """Returns what config.json says of the model."""
    found: dict[str, Any] = json.loads((_HERE / "config.json").read_text(encoding="utf-8"))
    return found


def load(name: str) -> Answer:
    """Returns the function that a file here holds: raw images (N, H, W, C) to probabilities (N, K) as float32.

    The images have the size, the channels and the type of the training images: see config.json.
    """
    kinds = {".safetensors": _network, ".pt2": _program, ".onnx": _onnx}
    answer = kinds[Path(name).suffix](_HERE / name)
    return lambda images: np.concatenate([answer(batch) for batch in _batches(images)])


def _batches(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, max(1, len(images)), _AT_ONCE):
        yield np.ascontiguousarray(images[start : start + _AT_ONCE])


def _network(path: Path) -> Answer:
    """Makes the network from its source in network/, and gives it the weights."""
    import torch
    import torch.nn.functional as F
    from safetensors.torch import load_file

    network_facts, tensors = facts()["network"], load_file(path)
    network = _build(network_facts["path"], network_facts["arguments"], network_facts["image_shape"])
    _fill(network, {name: value for name, value in tensors.items() if not name.startswith("normalization.")})
    channels, *size = network_facts["image_shape"]

    def answer(images_NHWC: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            raw_NCHW = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2)
            images = torch.addcmul(tensors["normalization.offset"], raw_NCHW, tensors["normalization.scale"])
            if images.shape[1] != channels:
                images = images.expand(-1, channels, -1, -1)
            if list(images.shape[2:]) != size:
                images = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
            probabilities_NK: NDArray[Any] = network(images).softmax(dim=1).numpy()
            return probabilities_NK

    return answer


def _build(path: str, arguments: dict[str, Any], image_shape: list[int]) -> Any:
    """Makes the network that a dotted path names, with random weights."""
    import torch

    sys.path.insert(0, str(_HERE / "network"))
    module, *names = path.split(".")
    made: Any = importlib.import_module(module)
    for name in names:
        module += f".{name}"
        made = getattr(made, name) if hasattr(made, name) else importlib.import_module(module)
    # JSON has no tuples, and the network got the shape of the images as one.
    network = made(**{name: tuple(value) if value == image_shape else value for name, value in arguments.items()})
    network = getattr(network, "_orig_mod", network).eval()  # of a compiled one
    with torch.no_grad():
        network(torch.zeros(2, *image_shape))  # gives lazy layers their shapes
    return network


def _fill(network: Any, tensors: dict[str, Any]) -> None:
    """Gives a network its weights. The file holds tensors that have several names once."""
    missing, unexpected = network.load_state_dict(tensors, strict=False)
    state = network.state_dict()
    filled = {state[name].data_ptr() for name in tensors if name in state}
    if lost := [*unexpected, *(name for name in missing if state[name].data_ptr() not in filled)]:
        raise ValueError(f"model.safetensors and the source in network/ do not agree on {', '.join(lost)}")


def _program(path: Path) -> Answer:
    import torch
    import torch.ao.quantization.fx._decomposed  # the operators of int8.pt2

    program = torch.export.load(path).module()

    def answer(images_NHWC: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            probabilities_NK: NDArray[Any] = program(torch.from_numpy(images_NHWC)).numpy()
            return probabilities_NK

    return answer


def _onnx(path: Path) -> Answer:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    return lambda images_NHWC: session.run(None, {images.name: images_NHWC})[0]


def read(path: Path) -> NDArray[Any]:
    """Returns the images (N, H, W, C) of a .npy file, or one picture, scaled to the size of the training images.

    Raises ValueError if the model does not take them.
    """
    height, width, channels = facts()["image_shape"]
    if path.suffix == ".npy":
        images = np.load(path, allow_pickle=False)
        images = images if images.ndim == 4 else images[..., np.newaxis]
    else:
        images = _picture(path, (width, height), "L" if channels == 1 else "RGB").reshape(1, height, width, -1)
    if images.shape[1:] != (height, width, channels):
        raise ValueError(f"{path} has images of {images.shape[1:]}, the model takes {(height, width, channels)}")
    try:
        return _in_type(images, np.dtype(facts()["type"]))
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def _picture(path: Path, size: tuple[int, int], mode: str) -> NDArray[np.uint8]:
    """Returns a picture as the original model reads it: 16-bit gray is scaled, transparency is blended with black."""
    from PIL import Image, ImageOps

    with Image.open(path) as file:
        picture = ImageOps.exif_transpose(file)
    if picture.mode.startswith("I;16"):
        wide = np.asarray(picture, np.uint32)
        picture = Image.fromarray(((wide * 255 + 32_767) // 65_535).astype(np.uint8))
    elif picture.mode in {"I", "F"}:
        raise ValueError(f"{path} has 32 bits per pixel of unknown range; store it with 8 or 16 bits")
    elif picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture)
    return np.asarray(picture.convert(mode).resize(size, Image.Resampling.BILINEAR))


def _in_type(values: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any]:
    """Returns numbers in another type, unchanged. Raises ValueError if the type does not have a value."""
    limits = np.iinfo(kind) if kind.kind in "iu" else np.finfo(kind)
    is_in_range = (values >= limits.min) & (values <= limits.max)  # false for NaN
    if not is_in_range.all():
        raise ValueError(f"has the value {values[~is_in_range][0]}; pixels are from {limits.min} to {limits.max}")
    typed = values.astype(kind)
    if kind.kind in "iu" and (typed != values).any():
        raise ValueError(f"has the value {values[typed != values][0]}; pixels are whole numbers")
    return typed


def main() -> None:
    """Prints one line of JSON for each image."""
    there = [name for name in _FILES if (_HERE / name).exists()]
    parser = argparse.ArgumentParser(description="Labels and probabilities of pictures and arrays.")
    parser.add_argument("inputs", metavar="FILE", nargs="+", type=Path, help="pictures and .npy files")
    parser.add_argument("--model", choices=there, default=there[0], help="the file to use (default: %(default)s)")
    args = parser.parse_args()
    answer, names, labels = load(args.model), facts()["class_names"], facts()["labels"]
    for path in args.inputs:
        for probabilities_K in answer(read(path)):
            shares = dict(zip(names, map(float, probabilities_K), strict=True))
            label = labels[int(probabilities_K.argmax())]
            print(json.dumps({"input": str(path), "label": label, "probabilities": shares}))


if __name__ == "__main__":
    main()
