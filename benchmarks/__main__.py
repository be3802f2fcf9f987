"""`make bench`: every comparison, interleaved, as medians of paired ratios; into results.json and results.md."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.pairs import child, interleave

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`theirs` over `ours`: above 1, ours is the faster."""

    name: str
    goal: float
    ours: Callable[[], dict[str, Any]]
    theirs: Callable[[], dict[str, Any]]
    threads: int | None = None
    quick: bool = False  # part of the quick mode too


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="everything, on all images for 2 epochs (hours)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only comparisons whose name holds this")
    parser.add_argument("--pairs", type=int, default=7)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = write_data(folder / "data.npz", 54_000 if args.full else 18_000)
        epochs = 2 if args.full else 1
        heading = f"{images} training images, {epochs} epoch(s), {args.pairs} pairs, {os.cpu_count()} cores"
        for comparison in comparisons(folder, epochs):
            if args.only in comparison.name and (args.full or comparison.quick):
                rows.append(measure(comparison, args.pairs, images * epochs))
                print(line(rows[-1]), flush=True)
                write_results(heading, rows)


def write_results(heading: str, rows: list[dict[str, Any]]) -> None:
    """Writes the rows; those of other comparisons, measured earlier in the same way, stay."""
    path = HERE / "results.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"what": ""}
    kept = before["rows"] if before["what"] == heading else []
    by_name = {row["name"]: row for row in [*kept, *rows]}
    all_rows = list(by_name.values())
    path.write_text(json.dumps({"what": heading, "rows": all_rows}, indent=2) + "\n", encoding="utf-8")
    (HERE / "results.md").write_text(table(heading, all_rows), encoding="utf-8")


def write_data(path: Path, images: int) -> int:
    """Fashion-MNIST where WORKBENCH_DATA has it, as one .npz of the recipe's own splits; the number of train images."""
    import numpy as np

    from experiments import load_config
    from lightning_modules import ImageDataModule

    data = ImageDataModule(load_config("fashion_mnist").data)
    data.setup()
    arrays = {}
    for name, subset in data.splits.items():
        chosen = subset.indices[: images if name == "train" else max(images // 9, 1000)]
        arrays[f"x_{name}"] = subset.images[chosen].squeeze(-1)
        arrays[f"y_{name}"] = subset.labels[chosen]
    np.savez(path, **arrays)
    return len(arrays["y_train"])


def comparisons(folder: Path, epochs: int) -> list[Comparison]:
    """The table of the README, in its order."""

    def version(name: str, threads: int) -> Callable[[], dict[str, Any]]:
        return partial(child, name, epochs=epochs, threads=threads, folder=folder)

    def against(
        text: str, theirs: str, threads: int, goal: float, *, ours: str = "tracked", quick: bool = False
    ) -> Comparison:
        return Comparison(
            name=f"{text}, {threads} thread(s)",
            goal=goal,
            ours=version(ours, threads),
            theirs=version(theirs, threads),
            threads=threads,
            quick=quick,
        )

    return [
        against("textbook PyTorch, no tracking", "pytorch", 1, 1.8),
        against("textbook PyTorch, no tracking", "pytorch", 2, 1.5, quick=True),
        against("textbook Lightning + MLFlowLogger", "lightning", 2, 2.2, quick=True),
        against("the seed's Keras code", "keras", 1, 1.4),
        against("the seed's Keras code", "keras", 2, 1.5),
        against("tracking off", "untracked", 2, 1 / 1.03),
        against("bare loop over the same step", "bare_loop", 2, 1 / 1.10, ours="untracked"),
        against("without 1,000 more metrics an epoch", "tracked", 2, 1 / 1.02, ours="tracked_many_metrics"),
        Comparison(
            name="workbench --help, against python -c pass",
            goal=1 / 4,
            ours=partial(command, "-m", "workbench", "--help"),
            theirs=partial(command, "-c", "pass"),
            quick=True,
        ),
        Comparison(
            name="a short run in a store of 10,000 runs, against an empty one",
            goal=1 / 1.3,
            ours=partial(short_run, folder / "full_store", 10_000),
            theirs=partial(short_run, folder / "empty_store", 0),
        ),
    ]


def command(*words: str) -> dict[str, Any]:
    """How long Python takes for these words, from start to end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], capture_output=True, check=True)
    return {"seconds": time.perf_counter() - start}


def short_run(folder: Path, runs: int) -> dict[str, Any]:
    """One epoch on digits in a store that holds so many runs before; imports left out."""
    if not folder.exists():
        from experiments import Store

        store = Store.open(folder)
        experiment = store.experiment_id("digits")
        for number in range(runs):
            run = store.client.create_run(experiment, run_name=f"old {number}")
            store.client.log_metric(run.info.run_id, "val/accuracy", number / runs)
            store.client.set_terminated(run.info.run_id)
    return child("short", epochs=1, threads=1, folder=folder)


def measure(comparison: Comparison, pairs: int, images: int) -> dict[str, Any]:
    from benchmarks.compute_limit import OPERATIONS_PER_IMAGE, matrix_rate

    print(f"… {comparison.name}", file=sys.stderr)
    comparison.ours()  # the store is made, the files are in memory
    ratio, ours, theirs = interleave(comparison.ours, comparison.theirs, pairs)
    row: dict[str, Any] = {
        "name": comparison.name,
        "goal": comparison.goal,
        "ratio": ratio.median,
        "spread": ratio.spread,
        "seconds": [sorted(r["seconds"] for r in side)[pairs // 2] for side in (ours, theirs)],
        "peak_mb": [max(r.get("peak_mb", 0) for r in side) for side in (ours, theirs)],
    }
    if comparison.threads:
        rate = matrix_rate(comparison.threads)
        row["matrix_gflops"] = rate / 1e9
        row["share_of_compute_limit"] = OPERATIONS_PER_IMAGE * images / min(r["seconds"] for r in ours) / rate
    return row


def line(row: dict[str, Any]) -> str:
    low, high = row["spread"]
    verdict = "met" if row["ratio"] >= row["goal"] else "missed"
    return f"{row['name']}: {row['ratio']:.2f} [{low:.2f}, {high:.2f}], goal {row['goal']:.2f}: {verdict}"


def table(heading: str, rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{heading}. Ratios are their seconds over ours, medians of pairs with the middle half.",
        "",
        "| against | ratio | middle half | goal | seconds (ours / theirs) | peak MB | share of compute limit |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["spread"]
        share = f"{row['share_of_compute_limit']:.0%}" if "share_of_compute_limit" in row else ""
        seconds = " / ".join(f"{value:.1f}" for value in row["seconds"])
        memory = " / ".join(f"{value:.0f}" for value in row["peak_mb"])
        cells = (
            row["name"],
            f"{row['ratio']:.2f}",
            f"{low:.2f}–{high:.2f}",
            f"{row['goal']:.2f}",
            seconds,
            memory,
            share,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
