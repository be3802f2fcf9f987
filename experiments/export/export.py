"""Writes a run's model to a folder that works without this project. It is there once every file was checked."""

import dataclasses
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experiments.errors import ExportDiffers
from experiments.export.check import Agreement, clean_answers
from experiments.export.container import DOCKERFILE, MODEL, write_container, write_model
from experiments.export.int8 import INT8, Cost, Quantization
from experiments.export.onnx import ONNX, write_onnx
from experiments.export.original import Original
from experiments.export.program import PROGRAM, write_program
from experiments.export.templates import write_template
from experiments.export.weights import FACTS, WEIGHTS, write_facts, write_weights
from experiments.serving.loaded import load_model
from experiments.tracking.store import Store
from lightning_modules import InputError
from lightning_modules.errors import WorkbenchError
from lightning_modules.showable import in_markdown

Document = dict[str, Any]

README, PREDICT = "README.md", "predict.py"
_MOST_NAMED = 20  # classes
_FORMAT_OF_OTHERS = "file"  # in the document


@dataclass(frozen=True)
class _Format:
    """A file, or a folder, that holds the whole model."""

    path: str
    name: str
    what: str
    needs: str
    write: Callable[[Original, Path], None]


_FORMATS = (
    _Format(WEIGHTS, "safetensors", "weights; their source is in `network/`", "torch, safetensors", write_weights),
    _Format(PROGRAM, "torch_export", "a torch.export program", "torch", write_program),
    _Format(ONNX, "onnx", "the program as ONNX", "onnxruntime", write_onnx),
    _Format(MODEL, _FORMAT_OF_OTHERS, "the model as MLflow keeps it", "mlflow-skinny, pandas, torch", write_model),
)


def export(store: Store, selector: str, target: Path, *, quantize: bool = False) -> Document:
    """Writes the model of the run that `selector` names to `target`; returns the `--json` document. Its code runs.

    Every file that holds the model is used in a process that cannot import this project, on 256 images of test.
    Raises InputError if `target` holds something, or if the run has no model or one that cannot be quantized. Raises
    ExportDiffers if a file gives another label than the original, or if 8 bits cost too much accuracy. Then, and if
    this process is interrupted, there is no `target`.
    """
    _check_target(target)
    model = load_model(store, selector)
    with tempfile.TemporaryDirectory() as scratch:
        original = Original(store, model, Path(scratch))
        quantization = Quantization.of(original) if quantize else None
        with _written_beside(target) as folder:
            made = _Export(original, folder, quantization)
            made.write()
            made.check()
            made.describe()
            return {"run_id": model.run.run_id, "folder": str(target), **made.document()}


def _check_target(target: Path) -> None:
    remedy = "name a folder that is empty or does not exist"
    if target.is_dir():
        if any(target.iterdir()):
            raise InputError("DIR", str(target), "is not empty", remedy)
    elif target.exists() or target.is_symlink():
        raise InputError("DIR", str(target), "is not a folder", remedy)


@contextmanager
def _written_beside(target: Path) -> Iterator[Path]:
    """Yields a new folder that becomes `target` if nothing is raised, and is removed otherwise."""
    path = target.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.", dir=path.parent))
    except OSError as error:
        raise InputError("DIR", str(target), f"cannot be written: {error.strerror}", "name another folder") from error
    try:
        yield folder
        folder.chmod(0o755)  # a temporary folder is its owner's alone
        folder.replace(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@dataclass
class _Export:
    """An export in the making, in `folder`."""

    original: Original
    folder: Path
    quantization: Quantization | None
    formats: list[_Format] = field(default_factory=list)  # those that were written
    left_out: dict[str, str] = field(default_factory=dict)  # file → reason
    agreements: dict[str, Agreement] = field(default_factory=dict)  # by file
    cost: Cost | None = None

    def write(self) -> None:
        """Writes all files but README.md. Those that cannot be written are left out."""
        write_facts(self.original, self.folder)
        shutil.copyfile(Path(__file__).with_name("standalone.py"), self.folder / PREDICT)
        for each in _FORMATS:
            if self._try(each.path, each.write):
                self.formats.append(each)
        self._try(DOCKERFILE, write_container)
        if self.quantization is not None:
            self.quantization.write(self.original, self.folder)
            self.formats.append(_Format(INT8, "int8", "the program in 8 bits", "torch", self.quantization.write))

    def check(self) -> None:
        """Raises ExportDiffers, and names the files, if an answer is not the original's."""
        images_NHWC = self.original.images[0]
        jobs = [(each.path, images_NHWC) for each in self.formats]
        if self.quantization is not None:
            jobs.append((INT8, self.quantization.images_NHWC))
        answers = clean_answers(self.folder, jobs, self.original.scratch)
        expected_NK = self.original.answers(images_NHWC)
        for each, answer_NK in zip(self.formats, answers, strict=False):
            self.agreements[each.path] = Agreement.of(each.path, expected_NK, answer_NK)
        wrong = [path for path, agreement in self.agreements.items() if not agreement.labels_equal and path != INT8]
        if wrong:
            raise ExportDiffers(f"{', '.join(wrong)}: labels differ from the original's on {self.original.images[1]}")
        if self.quantization is not None:
            self.cost = self.quantization.cost(self.original, self.folder, answers[-1])
            self.cost.check()

    def describe(self) -> None:
        """Writes README.md."""
        run, facts = self.original.model.run, self.original.facts
        names = [in_markdown(str(name)) for name in facts["class_names"][:_MOST_NAMED]]
        height, width, channels = facts["image_shape"]
        write_template(
            README,
            self.folder,
            title=in_markdown(run.name),
            run_id=run.run_id,
            names=", ".join(names) + (", …" if len(facts["class_names"]) > _MOST_NAMED else ""),
            count=len(facts["class_names"]),
            shape=[height, width, channels],
            type=str(self.original.model.type),
            versions={name: version(name) for name in ("lightning-workbench", "torch", "numpy", "safetensors")},
            rows=[(each, self.agreements[each.path], _size(self.folder / each.path)) for each in self.formats],
            compared=self.original.images[1],
            left_out=self.left_out,
            imports=json.loads((self.folder / FACTS).read_text(encoding="utf-8")).get("network", {}).get("imports", []),
            cost=self.cost,
            default=self.formats[0].path,
            tag=self._tag if (self.folder / DOCKERFILE).exists() else None,
        )

    def document(self) -> Document:
        """Returns what was written: every file, the folder `network/` as one."""
        names = {each.path: each.name for each in self.formats}
        others = sorted(path.name for path in self.folder.iterdir() if path.name not in names)
        files = []
        for path in [*names, *others]:
            agreement = self.agreements.get(path)
            files.append(
                {
                    "path": path,
                    "format": names.get(path, _FORMAT_OF_OTHERS),
                    "max_difference": agreement and agreement.max_difference,
                    "labels_equal": agreement and agreement.labels_equal,
                    "bytes": _size(self.folder / path),
                }
            )
        left_out = [{"path": path, "reason": reason} for path, reason in self.left_out.items()]
        quantized = None if self.cost is None else dataclasses.asdict(self.cost)
        return {"files": files, "compared": self.original.images[1], "left_out": left_out, "int8": quantized}

    @property
    def _tag(self) -> str:
        """The name of the container's image: Docker allows few characters."""
        return re.sub("[^a-z0-9]+", "-", self.original.model.run.name.lower())[:60].strip("-") or "model"

    def _try(self, path: str, write: Callable[[Original, Path], None]) -> bool:
        """Whether the file was written. If not, what there was of it is removed, and the reason is kept."""
        before = set(self.folder.iterdir())
        try:
            write(self.original, self.folder)
        except WorkbenchError as error:
            for leftover in set(self.folder.iterdir()) - before:
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            self.left_out[path] = str(error)
            return False
        return True


def _size(path: Path) -> int:
    """Returns the bytes of a file, or of all files in a folder."""
    return sum(each.stat().st_size for each in (path.rglob("*") if path.is_dir() else [path]) if each.is_file())
