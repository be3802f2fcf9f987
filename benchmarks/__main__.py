"""Compares the workbench with textbook versions of the same job; writes results.json and results.md in this folder.

Without a mode: some comparisons at a small size, the peaks of memory, and serving, in a few minutes.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from benchmarks import results
from benchmarks.comparisons import (
    COMPARISONS,
    GPU_CASES,
    MEMORY_CASES,
    SERVING_CASES,
    Comparison,
    GpuCase,
    MemoryCase,
    ServingCase,
    Setting,
)
from benchmarks.unfinished import Unfinished

Case = TypeVar("Case", Comparison | MemoryCase | ServingCase, GpuCase)
ALL = 54_000  # training images of Fashion-MNIST; another tenth validates
# Training images and epochs of each mode.
QUICK, GOALS, SEED, GPU = (18_000, 1), (18_000, 10), (ALL, 10), (18_000, 3)
BEGAN = time.monotonic()  # before torch is imported
HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--full", action="store_true", help="every comparison, at the seed's settings (most of a day)")
    goals = "how fast training is: each comparison of it, on a third of the images, three quarters of an hour"
    mode.add_argument("--goals", action="store_true", help=goals)
    mode.add_argument("--accuracy", action="store_true", help="accuracy over five seeds, at the seed's settings")
    gpu = "training on a GPU, in at most four minutes; writes each row to DIR at once (default: --results)"
    mode.add_argument("--gpu", nargs="?", const=True, default=False, metavar="DIR", help=gpu)
    mode.add_argument(
        "--storage", action="store_true", help="a PostgreSQL server as a sweep's storage (a quarter of an hour)"
    )
    without = "cpu: try --gpu out; without a DIR, nothing is written"
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help=without)
    seconds = "--gpu: begin no further pair later than this, once each row has one (default: 225)"
    parser.add_argument("--seconds", type=float, default=225.0, metavar="N", help=seconds)
    rows = "the rows whose name contains one of these texts, of all modes; with a text that none contains: their names"
    parser.add_argument("--rows", nargs="+", default=[], metavar="TEXT", help=rows)
    parser.add_argument("--images", type=int, metavar="N", help="training images (default: the mode's)")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of each training (default: the mode's)")
    parser.add_argument("--pairs", type=int, metavar="N", help="measurements of each side (default: 7, with --goals 3)")
    parser.add_argument("--results", type=Path, default=HERE, metavar="DIR", help="where results go")
    args = parser.parse_args()
    if isinstance(args.gpu, str):
        args.results = Path(args.gpu)
    args.results.mkdir(parents=True, exist_ok=True)
    args.run_images, args.run_epochs = args.images or SEED[0], args.epochs or SEED[1]
    images, epochs = GPU if args.gpu else GOALS if args.goals else SEED if args.full or args.accuracy else QUICK
    args.images, args.epochs = args.images or images, args.epochs or epochs
    args.pairs = args.pairs or (3 if args.goals else 7)
    if args.images > ALL:
        parser.error(f"--images: Fashion-MNIST has {ALL}")
    if args.gpu:
        measure_gpu(args)
        return
    if args.storage:
        measure_storage(args)
        return
    with tempfile.TemporaryDirectory() as scratch:
        setting = Setting(folder=Path(scratch), images=args.images, epochs=args.epochs)
        if args.accuracy:
            measure_accuracy(args, setting)
        else:
            compare(args, setting)


def compare(args: argparse.Namespace, setting: Setting) -> None:
    every = (*COMPARISONS, *MEMORY_CASES, *SERVING_CASES)
    chosen = _chosen(args, [case for case in every if args.rows or _is_of_mode(case, args)])
    if any(isinstance(case, Comparison) and case.threads for case in chosen):
        from benchmarks import data

        data.write(setting.folder, setting.images)
    for case in chosen:
        if isinstance(case, Comparison) and case.needs and find_spec(case.needs) is None:
            print(f"{case.name}: not measured, needs {case.needs} (the extra `bench`)", file=sys.stderr)
            continue
        print(f"… {case.name}", file=sys.stderr)
        if isinstance(case, Comparison):
            size = f"{case.name}: {setting.images} × {setting.epochs}, {results.machine()}"
            section, row = "comparisons", case.measure(setting, args.pairs, Unfinished(args.results, size))
        elif isinstance(case, MemoryCase):
            section, row = "memory", case.measure(setting)
        else:
            section, row = "serving", case.measure(setting, args.pairs)
        print(results.line(row), flush=True)
        results.keep(args.results, section, row)


def _is_of_mode(case: Comparison | MemoryCase | ServingCase, args: argparse.Namespace) -> bool:
    if args.goals:
        return isinstance(case, Comparison) and case.decides
    return args.full or not isinstance(case, Comparison) or case.quick


def _chosen(args: argparse.Namespace, cases: Sequence[Case]) -> list[Case]:
    """Returns the cases that `--rows` names; all if it is not given."""
    chosen = [case for case in cases if not args.rows or any(text in case.name for text in args.rows)]
    if not chosen:
        sys.exit("--rows: no name contains this; the names are\n" + "\n".join(case.name for case in cases))
    return chosen


def measure_accuracy(args: argparse.Namespace, setting: Setting) -> None:
    from benchmarks import accuracy, data

    data.write(setting.folder, setting.images)
    results.keep(args.results, "accuracy", accuracy.measure(setting))


def measure_storage(args: argparse.Namespace) -> None:
    from benchmarks import postgres, storage_scale

    if not postgres.is_installed():
        sys.exit("PostgreSQL is not installed; on Debian it is the package postgresql")
    results.keep(args.results, "storage", storage_scale.measure())


def measure_gpu(args: argparse.Namespace) -> None:
    import torch

    from benchmarks import gpu

    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("this machine has no CUDA GPU; --device cpu tries the measurement out without one")
    is_kept = args.device == "cuda" or args.results != HERE
    with tempfile.TemporaryDirectory() as nowhere:
        budget = gpu.Budget(
            device=args.device,
            images=args.images,
            epochs=args.epochs,
            run_images=args.run_images,
            run_epochs=args.run_epochs,
            pairs=args.pairs,
            ends=BEGAN + args.seconds,
            results=args.results if is_kept else Path(nowhere),
        )
        for row in gpu.measure(budget, _chosen(args, GPU_CASES)):
            print(f"{results.line(row)}, {row['pairs']} pairs, {time.monotonic() - BEGAN:.0f} s", flush=True)
            if is_kept:
                results.keep(args.results, "gpu", row)


if __name__ == "__main__":
    main()
