"""Hostile input, drawn at random: recipes, command lines, arrays, idx files and folders of pictures.

All functions take a `Random`, so that Hypothesis (`st.randoms()`) and a soak test can draw from the same ones.
"""

import gzip
import io
import itertools
import json
import struct
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from experiments import ExperimentConfig
from experiments.config import flatten
from experiments.recipe import field_paths
from sweeps.config import SweepConfig

DEFAULTS = flatten(ExperimentConfig().tree())
FIELDS = [path for path, _ in field_paths(ExperimentConfig) if path not in {"data.root", "model.weights"}]
SWEEP_FIELDS = [path for path, _ in field_paths(SweepConfig) if path != "storage"]
TEXTS = [
    *("", " ", "a\nb", "\x1b[31mred", "\u202egpj.exe", "\ud800", "\0", "../..", "/", "~", "$x$", "$\\frac{$", "%s"),
    *("<script>alert(1)</script>", "|a|b|", "[x](javascript:y)", "2024-13-45", "1:99:99", "0x", "nan", "é\u0301", "-"),
    *("digits", "arrays", "image_folder", "a.b", "torch.nn.Linear", "torch.optim.SGD", "os.system", "__main__.x"),
    *("(" * 200, "(a+)+$", "a" * 5_000, "x/" * 3_000, "a." * 3_000, "*", "&a", "!!python/object:os.system", "\ufeff"),
    *("postgresql://[", "mysql://", "val/loss", "val/accuracy", "full", "balanced", "auto", "latest", ":best", "x:all"),
]
NUMBERS: list[int | float] = [
    *(0, 1, -1, 2, 3, 255, 2**31, 2**63, 2**64, -(2**63), 10**20, 10**400, 10**4000),
    *(0.5, -0.0, 1e-320, 1e308, 1e-3, 0.1, float("inf"), float("-inf"), float("nan")),
]


def text(draw: Random) -> str:
    if draw.random() < 0.7:
        return draw.choice(TEXTS)
    return "".join(chr(draw.randint(0, 0x2FFF)) for _ in range(draw.randint(0, 12)))


def value(draw: Random, depth: int = 3) -> Any:
    """A value of a recipe: of any type, and lists and mappings of such."""
    kind = draw.randint(0, 9)
    if kind >= 8 and depth:
        return {text(draw): value(draw, depth - 1) for _ in range(draw.randint(0, 3))}
    if kind == 7 and depth:
        return [value(draw, depth - 1) for _ in range(draw.randint(0, 3))]
    if kind == 6:
        return draw.choice([None, True, False])
    return draw.choice(NUMBERS) if kind < 3 else text(draw)


def path(draw: Random) -> str:
    return draw.choice(FIELDS) if draw.random() < 0.95 else text(draw)


def laughs(draw: Random) -> str:
    """Anchors, each a list or mapping that repeats the one before."""
    width, depth = draw.randint(1, 12), draw.randint(1, 12)
    lines = ["a0: &a0 [x]"]
    for level in range(1, depth):
        items, pairs = [f"*a{level - 1}"] * width, [f"k{k}: *a{level - 1}" for k in range(width)]
        body = draw.choice([f"[{','.join(items)}]", f"{{{','.join(pairs)}}}"])
        lines.append(f"a{level}: &a{level} {body}")
    return "\n".join(lines)


def bad_yaml(draw: Random) -> str:
    many = draw.choice([3, 60, 3_000])
    tag = draw.choice(["int", "float", "binary", "timestamp", "set", "omap", "bool", "null"])
    return draw.choice(
        [
            "seed: " + "[" * many + "]" * many,
            "seed: " + "{a: " * many + "1" + "}" * many,
            "seed: " + "- " * many + "1",
            f"seed: {draw.choice('0123456789')}" + "9" * many,
            "model: &m {network_args: {a: *m}}",
            "<<: [*a, *b]",
            f"? {text(draw)}\n: 1",
            f"seed: !!{tag} {draw.choice(['x', '{a}', '', '[1]'])}",
            laughs(draw),
            text(draw),
            "experiment: '" + text(draw),
            "".join(draw.choice("{}[]:,-&*!|>'\"%@`#?\n \tax1.~<") for _ in range(draw.randint(0, 60))),
        ]
    )


def recipe(draw: Random) -> str:
    """A recipe: YAML that is no recipe, or some fields with values that may not fit."""
    if draw.random() < 0.35:
        return bad_yaml(draw)
    names = [path(draw) for _ in range(draw.randint(1, 3))]
    return as_yaml({name: DEFAULTS.get(name) if draw.random() < 0.4 else value(draw) for name in names})


def as_yaml(fields: dict[str, Any]) -> str:
    """Dotted fields as YAML, of which JSON is a part."""
    tree: dict[str, Any] = {}
    for path, each in fields.items():
        *parents, last = path.split(".")[:40]
        node = tree
        for parent in parents:
            below = node.get(parent)
            if not isinstance(below, dict):
                below = node[parent] = {}
            node = below
        node[last] = each
    return json.dumps(tree).replace("Infinity", ".inf").replace("NaN", ".nan")


def sweep_recipe(draw: Random) -> str:
    if draw.random() < 0.15:
        return bad_yaml(draw)
    space = {path(draw): parameter(draw) for _ in range(draw.randint(0, 1))}
    if draw.random() < 0.7:
        space |= {"data.batch_size": [32, 64], "trainer.max_epochs": parameter(draw)}
    tree: dict[str, Any] = {"recipe": "digits", "space": space}
    if draw.random() < 0.5:
        section, _, name = draw.choice(SWEEP_FIELDS).partition(".")
        tree[section] = {name: value(draw)} if name else value(draw)
    return json.dumps(tree).replace("Infinity", ".inf").replace("NaN", ".nan")


def parameter(draw: Random) -> Any:
    kind = draw.randint(0, 5)
    if kind == 0:
        return value(draw)
    if kind == 1:
        return [value(draw, 1) for _ in range(draw.randint(0, 3))]
    if kind == 2:
        return {"low": 1, "high": draw.choice([2, 10, 0.5, 10**6, 10**7])}
    low, high = sorted([draw.choice(NUMBERS), draw.choice(NUMBERS)], key=lambda number: (number != number, number))
    given: dict[str, Any] = {"low": low, "high": high}
    if draw.random() < 0.5:
        setting = draw.choice(["log", "step", "when", "choices", "x"])
        given[setting] = draw.choice([True, draw.choice(NUMBERS), value(draw, 1)])
    return given


def npy(draw: Random) -> bytes:
    """A .npy file: one that is right, with another header, or cut."""
    file = io.BytesIO()
    shape = tuple(draw.choice([0, 1, 2, 8, 8, 12]) for _ in range(draw.randint(0, 4)))
    kind = draw.choice(["u1", "f4", "f8", "i8", "?", "U3", "S3", "c8", "V3", "M8[s]", "f2", "u2"])
    np.save(file, np.zeros(shape, kind), allow_pickle=False)
    contents = file.getvalue()
    match draw.randint(0, 4):
        case 0:
            return contents
        case 1:
            place = draw.randrange(len(contents))
            return contents[:place] + bytes([draw.randint(0, 255)]) + contents[place + 1 :]
        case 2:
            return contents[: draw.randint(0, len(contents))]
        case 3:
            sides = [draw.choice([-1, 0, 1, 8, 2**31, 2**62, 2**64, 10**30]) for _ in range(draw.randint(0, 4))]
            types = ["'|u1'", "'<U99999999'", "'|O'", "'|V0'", "[('a', '<f8')]", "'<f8'", "1", "'x'", "[]", "None"]
            order, kind = draw.choice([True, False, 1]), draw.choice(types)
            return with_header(f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {tuple(sides)}, }}")
        case _:
            many = draw.choice([1, 20, 3_000])
            return with_header(draw.choice(["(", "[", "{'descr': ", "-", "9", "'", "\\", "{}"]) * many)


def with_header(header: str) -> bytes:
    written = header.encode("latin-1")
    written += b" " * (-(11 + len(written)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(written) & 0xFFFF) + written + bytes(64)


def npz(draw: Random) -> bytes:
    file = io.BytesIO()
    if draw.random() < 0.6:
        count = draw.choice([0, 1, 2, 20])
        images = np.random.default_rng(0).integers(0, 256, (count, 8, 8)).astype(draw.choice(["u1", "f4", "i8", "?"]))
        names = [text(draw) for _ in range(2)]
        few, many = np.arange(count) % 2, np.arange(count)
        labels = draw.choice([few, np.array((names * count)[:count]), many, np.zeros((count, 2))])
        np.savez_compressed(file, **{draw.choice(["x", "x_train"]): images, draw.choice(["y", "y_train"]): labels})
        contents = file.getvalue()
        return contents if draw.random() < 0.6 else contents[: draw.randint(0, len(contents))]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("x.npy", "y.npy", draw.choice(["../x.npy", "z.npy", "\x1b.npy", "y.txt", "/a.npy"])):
            with suppress(ValueError):
                archive.writestr(name, npy(draw) + bytes(draw.choice([0, 0, 0, 2**20])))
    return file.getvalue()


def arrays(draw: Random, folder: Path) -> dict[str, Any]:
    """Writes files of arrays, and returns the fields of a config that name them."""
    if draw.random() < 0.5:
        (folder / "data.npz").write_bytes(npz(draw))
        return {"data.source": "arrays", "data.path": str(folder / "data.npz")}
    (folder / "x.npy").write_bytes(npy(draw))
    (folder / "y.npy").write_bytes(npy(draw))
    return {"data.source": "arrays", "data.path": str(folder / "x.npy"), "data.labels_path": str(folder / "y.npy")}


def idx(draw: Random) -> bytes:
    """A gzipped IDX file: right, with sizes that lie, cut, or a bomb."""
    sides = [draw.choice([0, 1, 8, 8, 255, 2**16, 2**31, 2**32 - 1]) for _ in range(draw.choice([0, 1, 3, 3, 255]))]
    head = struct.pack(">HBB", draw.choice([0, 0, 0, 1]), draw.choice([8, 8, 8, 13]), len(sides))
    contents = head + b"".join(struct.pack(">I", side) for side in sides) + bytes(draw.choice([0, 1, 64, 512, 2**20]))
    packed = gzip.compress(contents, 1) if draw.random() < 0.9 else contents
    if draw.random() < 0.2:
        packed = packed[: draw.randint(0, len(packed))]
    return packed


def png(width: int, height: int, color: int = 2) -> bytes:
    """A picture of zeros; its header may declare more than there is room for."""

    def chunk(kind: bytes, contents: bytes) -> bytes:
        return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(kind + contents))

    header = struct.pack(">IIBBBBB", width & 0x7FFFFFFF, height & 0x7FFFFFFF, 8, color, 0, 0, 0)
    rows = bytes(min((1 + width * 3) * height, 2**20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def picture(draw: Random) -> bytes:
    kind = draw.randint(0, 5)
    if kind == 0:
        return b""
    if kind == 1:
        return png(draw.choice([0, 1, 8, 9_000, 2**31 - 1]), draw.choice([0, 1, 8, 9_000, 2**31 - 1]))
    if kind == 2:
        starts = [b"GIF89a", b"BM", b"II*\0", b"RIFF\xff\xff\xff\xffWEBPVP8 "]
        return draw.choice(starts) + draw.choice([b"\xff", b"\0"]) * 60
    file = io.BytesIO()
    made = Image.new(draw.choice(["L", "RGB", "RGBA", "1", "P"]), (draw.choice([1, 8]), 8))
    made.save(file, draw.choice(["PNG", "TIFF"]))
    contents = bytearray(file.getvalue())
    if kind == 3:
        contents[draw.randrange(len(contents))] = draw.randint(0, 255)
    return bytes(contents)


def pictures(draw: Random, folder: Path) -> dict[str, Any]:
    """Writes a folder of pictures, and returns the fields of a config that name it."""
    root = folder / "pictures"
    root.mkdir()
    for part in draw.choice([[""], ["train", "test"], ["train", "val"]]):
        for name in (*draw.sample(["cat", "dog", *TEXTS], 2), "cat"):
            place = root / part / name.replace("/", "_").replace("\0", "")[:80]
            with suppress(OSError, ValueError):
                place.mkdir(parents=True, exist_ok=True)
                for number in range(draw.randint(0, 3)):
                    (place / f"{text(draw).replace('/', '_')[:60]}{number}.png").write_bytes(picture(draw))
    links = {"a.png": "/etc/passwd", "b.png": "b.png", "c": "..", "d.png": "/dev/zero"}
    for name in draw.sample(list(links), draw.randint(0, 2)):
        with suppress(OSError):
            (root / "cat" / name).symlink_to(links[name])
    size = draw.choice([None, 8, [8, 16], 0, -1, 10**9])
    return {"data.source": "image_folder", "data.path": str(root), "data.image_size": size}


def command_line(draw: Random, folder: Path) -> list[str]:
    """The words of a command that writes to no store but `folder/store`, and ends by itself."""
    store = ["--store", str(folder / "store")]
    name = text(draw) or "x"
    (folder / "recipe.yaml").write_text(recipe(draw), encoding="utf-8", errors="replace")
    named = draw.choice(["digits", str(folder / "recipe.yaml"), name])
    fields = itertools.chain.from_iterable((f"--{draw.choice(FIELDS)}", word(draw)) for _ in range(draw.randint(0, 2)))
    made: list[str] = draw.choice(
        [
            ["train", named, "--dry-run", *fields, "--trainer.threads", "1", *store],
            ["train", named, "--dry-run", f"--{name}", word(draw), *store],
            ["train", "digits", "--resume", name, *store],
            ["train", "digits", "--name", "\ud800", "--trainer.max_epochs", "1", *store],
            ["train", "digits", "--tag", f"{name}={name}", "--notes", "\0", *store],
            ["runs", "--filter", name, *store],
            ["runs", "--sort", name, "--columns", name, "--limit", word(draw), *store],
            ["runs", "--since", name, "--csv", *store],
            ["compare", name, word(draw), *store],
            ["predict", name, name, *store],
            ["reproduce", name, *store],
            ["fields", name],
            ["data", "check", named],
            ["clean", "--only", name, *store],
            ["sweep", f"no {name}", "--workers", word(draw), *store],
            ["sweep", "digits", f"--{draw.choice(SWEEP_FIELDS)}", "\0", *store],
            [name, *store],
            [word(draw) for _ in range(draw.randint(0, 4))],
        ]
    )
    return [each for each in made if each not in {"ui", "serve"}]


def word(draw: Random) -> str:
    """A word of a command line: a text, or a value as JSON, which is YAML."""
    return text(draw) if draw.random() < 0.5 else json.dumps(value(draw, 1))
