"""README and docs: every command is one that the command line takes, and what can be run here is run.

All commands run in one folder with one store, in the order of the pages, as a reader would give them. Training is
shortened. A command that does not run is in `NOT_RUN`, with the reason.
"""

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import yaml
from PIL import Image

import workbench
from benchmarks.results import tables
from experiments import load_config
from experiments.config import ExperimentConfig, flatten
from experiments.recipe import field_paths, parse_overrides, with_overrides
from sweeps import SweepConfig, load_sweep
from workbench._parser import parse

ROOT = Path(__file__).parents[1]
# Runs are made first, then listed and compared.
NAMES = (
    "README",
    "docs/train",
    "docs/own_data",
    "docs/own_code",
    "docs/own_task",
    "docs/architecture",
    "docs/notebook",
    "docs/sweeps",
    "docs/compare",
    "docs/reproduce",
    "docs/serve",
    "docs/export",
    "docs/evaluate",
)
NAMES += (
    "docs/at_scale",
    "docs/gpu",
    "docs/fashion_mnist_optimizers",
    "docs/fashion_mnist_question",
    "mlruns/README",
    "benchmarks/results",
    "CHANGELOG",
)
PAGES = [f"{name}.md" for name in NAMES]

# What a reader puts in place of these; for commands that run, what this test puts there.
PLACEHOLDERS = {"RUN": "latest"}

SHORTER = {
    "train": {"trainer.max_epochs": 1, "trainer.threads": 1},
    "sweep": {
        "trainer.max_epochs": 1,
        "budget.trials": 2,
        "finalists.top": 1,
        "finalists.seeds": 2,  # the fewest that a question takes
        "finalists.baseline": False,
    },
    "replay": {"budget.trials": 2},
}
# Python blocks are shortened in the same way, by replacing text.
SHORTER_PYTHON = {
    "max_epochs=10": "max_epochs=1",
    'load_config("digits")': f'load_config("digits", {SHORTER["train"]})',
    '{"budget.trials": 40}': str(SHORTER["sweep"]),
}

_DOWNLOADS = "needs Fashion-MNIST, a download"
_GPU = "needs Fashion-MNIST and a GPU"
_REPEATS = "trains five runs in worker processes; see test_repeats.py"
_SERVERS = "needs PostgreSQL and a tracking server"
_SERVES = "serves until it is interrupted; see test_serve.py"
NOT_RUN = {
    "ui": "serves until it is interrupted; see test_browser.py",
    "serve digits:champion": _SERVES,
    "serve RUN --port 8080": _SERVES,
    "serve RUN --host 0.0.0.0 --token-file my_token": _SERVES,
    "reproduce digits:all --epochs 2": "takes minutes; one run is reproduced",
    "reproduce latest --code today": "takes as long as the first; see test_reproduce.py",
    "reproduce RUN --code today": "takes as long as the first; see test_reproduce.py",
    "reproduce latest --optimizer.lr 0.02": "exits with 1, as intended; see test_reproduce.py",
    "train digits --seeds 5": _REPEATS,
    "train digits --folds 5 --workers 2": _REPEATS,
    "train digits --seeds 5 --name slow --optimizer.lr 0.001": _REPEATS,
    "train digits --seeds 5 --name fast --optimizer.lr 0.01": _REPEATS,
    "compare slow fast": "needs these repeats; see test_repeats.py",
    "train --resume RUN": "needs an interrupted run; see test_resume.py",
    "evaluate RUN": "the newest run may have no model; see test_evaluate.py",
    "evaluate RUN --against digits:champion": "the newest run may have no model; see test_evaluate.py",
    "promote RUN --force": "the newest run may have no model; see test_promotion.py",
    "clean --yes": "would remove the user's own caches; see test_clean.py",
    "train fashion_mnist": _DOWNLOADS,
    "train fashion_mnist --optimizer.lr 3e-4 --trainer.max_epochs 20 --name slower": _DOWNLOADS,
    "train my_experiment.yaml": _DOWNLOADS,
    "data fetch fashion_mnist": _DOWNLOADS,
    "sweep digits --workers 2 --name another": "starts worker processes; see test_workers.py",
    "sweep fashion_mnist_optimizers": _DOWNLOADS,
    "sweep fashion_mnist_optimizers --workers 2 --data.root FOLDER_OF_DOWNLOADS": _DOWNLOADS,
    "sweep fashion_mnist_optimizers --workers 4": _GPU,
    "sweep fashion_mnist_question --data.root FOLDER_OF_DOWNLOADS": _DOWNLOADS,
    "train fashion_mnist --trainer.accelerator cuda": _GPU,
    "train fashion_mnist --trainer.precision bf16-mixed --data.batch_size 512": _GPU,
    "train fashion_mnist --trainer.matmul_precision high": _GPU,
    "train fashion_mnist --trainer.compile cuda_graphs": _GPU,
    "train fashion_mnist --trainer.devices 2": "needs two GPUs",
    "train fashion_mnist --trainer.devices 2 --trainer.accelerator cpu": f"{_DOWNLOADS}; see test_together.py",
    "sweep my_sweep.yaml --workers 8 --storage postgresql://me@DATABASE_HOST/workbench_studies": _SERVERS,
    "sweep my_sweep.yaml --engine ray --address ADDRESS:6379 "
    "--storage postgresql://me@DATABASE_HOST/workbench_studies": "needs a Ray cluster; see test_ray.py",
    "sweep my_sweep.yaml --workers 1 --store mlruns/1 "
    "--storage postgresql://me@DATABASE_HOST/workbench_studies": _SERVERS,
    "store copy mlruns /srv/workbench --served --to-tracking postgresql://me@DATABASE_HOST/workbench_runs "
    "--to-storage postgresql://me@DATABASE_HOST/workbench_studies": _SERVERS,
    "store copy /srv/workbench mlruns --from-tracking postgresql://me@DATABASE_HOST/workbench_runs "
    "--from-storage postgresql://me@DATABASE_HOST/workbench_studies": _SERVERS,
}
# Other programs in the blocks; none of them runs here.
OTHER_PROGRAMS = {
    "source": "the shell's own",
    "make": "its targets are checked",
    "curl": "needs a server; see test_serve.py",
    "mlflow": "serves until it is interrupted; see test_model.py",
    "optuna-dashboard": "serves until it is interrupted; see test_browser.py",
    "python": "runs the tests themselves",
    "pip": "needs the network",
    "createdb": "needs PostgreSQL",
    "ray": "needs a Ray cluster",
    "chmod": "follows ray",
    "cd": "follows an export, before docker",
    "docker": "has no engine here; see test_container.py",
    "torchrun": "see test_together.py",
    "srun": "needs Slurm",
    **dict.fromkeys(("again()", "trap", "wait", "if", "exit"), "lines of the Slurm script"),
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name in its first line, `# NAME`, if it is a file that the reader writes."""
        named = re.match(r"# (\w+\.(?:yaml|py))\n", self.text)
        return named[1] if named else None


@cache
def blocks(language: str | None = None) -> list[Block]:
    found = []
    for page in PAGES:
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL):
            found.append(Block(page, match[1], match[2]))
    return [block for block in found if language in (None, block.language)]


def calls() -> Iterator[tuple[str, list[str]]]:
    """Every program that a bash block calls, with its arguments."""
    for block in blocks("bash"):
        text = re.sub(r"\$[A-Z_]+", "1", block.text.replace("\\\n", " "))
        for call in re.split(r"\n| && ", text):
            words = [word for word in shlex.split(call, comments=True) if word != "&"]
            while words and (words[0] == "export" or re.match(r"\w+=", words[0])):
                words.pop(0)
            if words:
                yield Path(words[0]).name, words[1:]


COMMANDS = list({shlex.join(words): words for program, words in calls() if program == "workbench"}.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that commands are given in: the files that pages tell the reader to write, and images."""
    folder = tmp_path_factory.mktemp("reader")
    for block in blocks():
        if block.file is not None:
            (folder / block.file).write_text(block.text)
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (60, 8, 8), np.uint8), np.arange(60) % 2
    np.savez(folder / "mine.npz", x=images, y=labels)
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    np.save(folder / "patients.npy", np.arange(60) // 4)
    for number, image in enumerate(images):
        path = folder / "pictures" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder as the working directory."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", sys.path.copy())  # a network of one's own adds to it
    monkeypatch.setenv("WORKBENCH_DATA", str(folder))  # for the cache of decoded pictures
    return folder


# Commands.


def test_every_program_is_known() -> None:
    assert {program for program, _ in calls()} - OTHER_PROGRAMS.keys() == {"workbench"}


def test_no_command_that_does_not_run_has_left_the_pages() -> None:
    assert NOT_RUN.keys() - {" ".join(words) for words in COMMANDS} == set()


def test_every_target_of_make_is_one() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for program, words in calls() if program == "make" for word in words if "=" not in word}
    assert named | {"demo", "test"} <= targets


@pytest.mark.parametrize("words", COMMANDS, ids=shlex.join)
def test_a_command_names_recipes_and_fields_that_exist(words: list[str], here: Path) -> None:
    command, args = parse(words)
    overrides = parse_overrides(args.fields)
    if command.__name__ == "workbench.train" and args.recipe:
        load_config(args.recipe, overrides)
    elif command.__name__ == "workbench.sweep":
        load_sweep(args.recipe, overrides, name=args.name)
    else:
        config = SweepConfig if command.__name__ == "workbench.replay" else ExperimentConfig
        assert overrides.keys() <= dict(field_paths(config)).keys()


@pytest.mark.parametrize("words", [words for words in COMMANDS if " ".join(words) not in NOT_RUN], ids=shlex.join)
def test_a_command_runs(words: list[str], here: Path) -> None:
    shorter = [word for name, value in SHORTER.get(words[0], {}).items() for word in (f"--{name}", json.dumps(value))]
    shorter += {"sweep": ["--workers", "1"], "reproduce": ["--epochs", "1"]}.get(words[0], [])
    if words[0] == "sign":
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "id_ed25519"], check=True)
        shorter = ["--key", "id_ed25519"]
    assert workbench.main([PLACEHOLDERS.get(word, word) for word in words] + shorter) == 0


# After the commands: the store holds what the pages speak of.
@pytest.mark.filterwarnings("ignore")  # Lightning's hints for its own data loaders
@pytest.mark.parametrize("block", [block for block in blocks("python") if block.file is None], ids=lambda b: b.page)
def test_a_python_block_runs(block: Block, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = block.text
    for text, shorter in SHORTER_PYTHON.items():
        code = code.replace(text, shorter)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # mlflow.set_tracking_uri sets it
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None)
    exec(compile(code, block.page, "exec"), {})


# Recipes.


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.file or block.text.partition(":")[0])
def test_a_recipe_loads(block: Block, here: Path) -> None:
    """A block without a file name is a part of a recipe: it replaces the same fields of the one on its page."""
    tree: dict[str, Any] = yaml.safe_load(block.text)
    is_sweep = tree.keys() <= dict(field_paths(SweepConfig)).keys()
    whole = "my_sweep.yaml" if is_sweep else "my_pictures.yaml"
    path = here / (block.file or "part.yaml")
    if block.file is None:
        path.write_text(yaml.safe_dump(with_overrides(yaml.safe_load((here / whole).read_text()), tree)))
    loaded = load_sweep(str(path)).config_tree() if is_sweep else load_config(str(path)).tree()
    made_absolute = {"recipe", "data.path"}
    given = {
        name: value for name, value in flatten(tree).items() if name.partition(".")[0] not in ("space", "overrides")
    }
    flat = flatten(loaded)
    assert {name: flat[name] for name in given.keys() - made_absolute} == {
        name: given[name] for name in given.keys() - made_absolute
    }


# Text.


def test_every_block_says_what_it_is() -> None:
    assert {block.language for block in blocks()} <= {"bash", "yaml", "python", "text"}  # the last: what is printed


@pytest.mark.parametrize("page", PAGES)
def test_fields_and_commands_in_a_text_exist(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    fields = dict(field_paths(ExperimentConfig)) | dict(field_paths(SweepConfig))
    roots = {path.partition(".")[0] for path in fields if "." in path}
    for span in re.findall(r"`([^`]+)`", text):
        for name in re.findall(r"(?<![\w./])(?:--)?([a-z]+(?:\.[a-z_0-9]+)+)", span):
            if name.partition(".")[0] in roots and not name.endswith((".py", ".npz", ".safetensors", ".onnx")):
                assert name in fields or name.startswith("model.network_args."), f"`{span}`"
        if span.startswith("workbench ") and not span.startswith("workbench --"):
            assert (ROOT / "workbench" / f"{span.split()[1]}.py").exists(), f"`{span}`"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target, _, anchor in (
        link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text())
    ):
        if target.startswith("https://"):
            continue
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, anchor


def test_every_page_is_checked_here() -> None:
    there = {path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}
    assert there <= set(PAGES)


def test_architecture_says_of_each_room_what_the_room_says() -> None:
    rows = dict(re.findall(r"^\| `(\w+/\w+)` \| (.*) \|$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE))
    packages = [
        path for floor in ("lightning_modules", "experiments", "sweeps") for path in ROOT.glob(f"{floor}/*/__init__.py")
    ]
    assert rows == {
        path.parent.relative_to(ROOT).as_posix(): (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]
        for path in packages
    }


def test_the_page_of_results_is_what_the_results_give() -> None:
    measured = json.loads((ROOT / "benchmarks/results.json").read_text())
    assert (ROOT / "benchmarks/results.md").read_text() == tables(measured)
