"""The measurements: results.json has each row with the machine that measured it; results.md shows them as tables."""

import itertools
import json
import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.comparisons import COMPARISONS, GPU_CASES, MEMORY_CASES, SERVING_CASES

Row = dict[str, Any]
NOT_MEASURED = "not measured"

_INTRODUCTION = """\
# How fast

`make bench` compares the workbench with textbook versions of the same job, at a small size. `make bench ARGS=--full`
runs every comparison at the seed's settings: all of Fashion-MNIST, ten epochs. `ARGS=--accuracy`, `ARGS=--gpu` and
`ARGS=--storage` fill the sections with these names. `--images` and `--epochs` set other sizes, and `--rows TEXT`
chooses the rows whose name contains the text. The same command goes on where an earlier one was cut off.

Unless the row says otherwise, our side is a whole tracked run: validation after every epoch, test, all artifacts.
The first column names the other side; the textbook versions are in this folder. A ratio is their seconds divided by
ours, so above 1 the workbench is faster. The two sides run in turn, each in a process of its own. The ratio is the
median over the pairs, and half of the pairs are within the middle half. Imports are not timed, except for `--help`.
The compute limit is the measured speed of large matrix products on the machine."""

_ON_A_GPU = """\
Compared with the plain PyTorch loop, in float32, in turn in one process. Steps: the training of an epoch, without
validation, by an ImageClassifier in a plain Trainer; the first epoch of a training is not counted: it captures the step
and may compile it, in the seconds of the column "first epoch". A whole tracked run is `workbench train`, from reading
the data to the last artifact, against reading, training and test of the plain loop."""


_SERVING = """\
Servers of the recipe's network, asked by 32 clients with one image a request, as JSON. Each client asks again once it
has its answer; all are in one process, on the same machine. Both servers stay up, and are asked in turn."""


def keep(folder: Path, section: str, row: Row) -> None:
    """Writes a row of a section. It replaces the earlier row with the same name; all others stay."""
    path = folder / "results.json"
    results: dict[str, list[Row]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    by_name = {earlier["name"]: earlier for earlier in results.get(section, [])}
    by_name[row["name"]] = row | {"machine": machine()}
    results[section] = list(by_name.values())
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(tables(results), encoding="utf-8")


def machine() -> Row:
    """The machine and the releases that a measurement depends on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    releases = {"torch": version("torch"), "pytorch-lightning": version("pytorch-lightning")}
    return {"cpu": _cpu_model(), "cores": cores} | releases


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def line(row: Row) -> str:
    """A row of `comparisons`, `memory`, `serving` or `gpu` as one line of text."""
    if "peak_gb" in row:
        return f"{row['name']}: {row['peak_gb']:.2f} GB at most, goal {_limit(row)}"
    low, high = row["spread"]
    goal = f", goal {_goal(row)}" if row.get("goal") else ""
    latencies = f", p50 {_sides(row['p50_ms'])} ms, p99 {_sides(row['p99_ms'])} ms" if "p50_ms" in row else ""
    return f"{row['name']}: {row['ratio']:.2f} [{low:.2f}, {high:.2f}]{latencies}{goal}"


def tables(results: dict[str, list[Row]]) -> str:
    """The Markdown page: all comparisons, in order, measured or not."""
    machines: list[Row] = []
    for row in itertools.chain(*results.values()):
        if row["machine"] not in machines:
            machines.append(row["machine"])
    parts = [
        _INTRODUCTION,
        _comparisons(results.get("comparisons", []), machines),
        "## Memory",
        "The largest amount of memory that the process held, including its imports and the files that it had mapped.",
        _memory(results.get("memory", []), machines),
        "## Serving",
        _SERVING,
        _serving(results.get("serving", []), machines),
        "## Accuracy on test",
        *_accuracy(results.get("accuracy", []), machines),
        "## On a GPU",
        _ON_A_GPU,
        _gpu(results.get("gpu", []), machines),
        "## PostgreSQL as a sweep's storage",
        *_storage(results.get("storage", []), machines),
        "\n".join(
            f"Machine {number}: {m['cpu']}, {m['cores']} cores, torch {m['torch']}, "
            f"pytorch-lightning {m['pytorch-lightning']}.  "
            for number, m in enumerate(machines, 1)
        ),
    ]
    return "\n\n".join(part for part in parts if part).rstrip() + "\n"


def _comparisons(rows: Sequence[Row], machines: list[Row]) -> str:
    columns = ("against", "ratio", "middle half", "goal", "seconds (ours / theirs)", "peak MB")
    columns += ("share of compute limit", "images × epochs", "pairs", "machine")
    measured = {row["name"]: row for row in rows}
    lines = []
    for comparison in COMPARISONS:
        row = measured.get(comparison.name)
        if row is None:
            goal = f"≥ {comparison.goal:.2f}" if comparison.goal else "none"
            lines.append((comparison.name, NOT_MEASURED, "", goal))
            continue
        share = f"{row['share_of_compute_limit']:.0%} of {row['matrix_gflops']:.0f} GFLOP/s" if "images" in row else ""
        seconds, memory = _sides(row["seconds"]), _sides(row["peak_mb"]) if any(row["peak_mb"]) else ""
        cells = (f"{row['ratio']:.2f}", _spread(row), _goal(row), seconds, memory, share, _size(row))
        lines.append((row["name"], *cells, f"{row['pairs']}", _number(row, machines)))
    return _table(columns, lines)


def _memory(rows: Sequence[Row], machines: list[Row]) -> str:
    measured = {row["name"]: row for row in rows}
    lines = []
    for case in MEMORY_CASES:
        row = measured.get(case.name)
        if row is None:
            lines.append((case.name, NOT_MEASURED, f"≤ {case.limit_gb:.1f}"))
            continue
        cells = (f"{row['peak_gb']:.2f}", _limit(row), f"{row['seconds']:.0f}", _number(row, machines))
        lines.append((row["name"], *cells))
    return _table(("of", "peak GB", "goal", "seconds", "machine"), lines)


def _serving(rows: Sequence[Row], machines: list[Row]) -> str:
    columns = ("against", "ratio", "middle half", "goal", "requests a second (ours / theirs)")
    columns += ("p50 ms", "p99 ms", "pairs", "machine")
    measured = {row["name"]: row for row in rows}
    lines = []
    for case in SERVING_CASES:
        row = measured.get(case.name)
        if row is None:
            lines.append((case.name, NOT_MEASURED, "", f"≥ {case.goal:.2f}"))
            continue
        rates = _sides(row["requests"] / seconds for seconds in row["seconds"])
        cells = (f"{row['ratio']:.2f}", _spread(row), _goal(row), rates, _sides(row["p50_ms"]), _sides(row["p99_ms"]))
        lines.append((row["name"], *cells, f"{row['pairs']}", _number(row, machines)))
    return _table(columns, lines)


def _gpu(rows: Sequence[Row], machines: list[Row]) -> str:
    columns = ("ours", "ratio", "middle half", "goal", "images a second (ours / theirs)", "first epoch", "peak GPU MB")
    columns += ("images × epochs", "images", "GPU", "pairs", "machine")
    measured = {row["name"]: row for row in rows}
    lines = []
    for case in GPU_CASES:
        row = measured.get(case.name)
        if row is None:
            lines.append((case.name, NOT_MEASURED, "", f"≥ {case.goal:.2f}" if case.goal else "none"))
            continue
        name = f"{case.name} (not captured: {row['uncaptured']})" if row["uncaptured"] else case.name
        rates = " / ".join(f"{rate:,.0f}" for rate in row["images_per_second"])
        first = f"{row['first']:.2g} s" if row["first"] else ""
        cells = (f"{row['ratio']:.2f}", _spread(row), _goal(row), rates, first, _sides(row["peak_mb"]), _size(row))
        lines.append((name, *cells, row["source"], row["device"], f"{row['pairs']}", _number(row, machines)))
    return _table(columns, lines)


def _accuracy(rows: Sequence[Row], machines: list[Row]) -> list[str]:
    if not rows:
        return [NOT_MEASURED]
    (row,) = rows
    lines = []
    for side, name in (("ours", "one tracked run"), ("theirs", "textbook PyTorch")):
        scores = ", ".join(f"{score:.4f}" for score in row[side]["scores"])
        lines.append((name, f"{row[side]['mean']:.4f}", f"{row[side]['deviation']:.4f}", scores))
    if row["difference"]["ci95"] is None:
        verdict = "the same with every seed: too few seeds to tell"
    else:
        low, high = row["difference"]["ci95"]
        apart = "includes 0: they cannot be distinguished" if low <= 0 <= high else "does not include 0: they differ"
        verdict = f"95 % interval {low:+.4f} to {high:+.4f}, which {apart}"
    return [
        _table(("version", "mean", "standard deviation", "seed by seed"), lines),
        f"Difference (ours − theirs) {row['difference']['mean']:+.4f}, {verdict}. "
        f"{_size(row)} images × epochs, one thread, machine {_number(row, machines)}.",
    ]


def _storage(rows: Sequence[Row], machines: list[Row]) -> list[str]:
    if not rows:
        return [NOT_MEASURED]
    (row,) = rows
    rates = [(workers, f"{rate:,.0f}") for workers, rate in row["trials_a_minute"].items()]
    asking = [
        (sampler, f"{int(trials):,}", f"{told['next']:,.0f}", f"{told['first']:,.0f}")
        for sampler, sizes in row["asking"].items()
        for trials, told in sizes.items()
    ]
    return [
        f"Trials that train nothing. The server and all workers share machine {_number(row, machines)}; each rate was "
        f"measured over {row['seconds']:.0f} s.",
        _table(("workers", "trials a minute"), rates),
        _table(
            ("sampler", "trials in the study", "ms to take the next one", "ms to take the first one of a process"),
            asking,
        ),
    ]


def _goal(row: Row) -> str:
    return f"≥ {row['goal']:.2f}: {'met' if row['met'] else 'missed'}" if row["goal"] else "none"


def _limit(row: Row) -> str:
    return f"≤ {row['limit_gb']:.1f}: {'met' if row['met'] else 'missed'}"


def _spread(row: Row) -> str:
    low, high = row["spread"]
    return f"{low:.2f}–{high:.2f}"


def _sides(values: Iterable[float]) -> str:
    return " / ".join(f"{value:.0f}" if value >= 100 else f"{value:.3g}" for value in values)


def _size(row: Row) -> str:
    return f"{row['images']:,} × {row['epochs']}" if "images" in row else ""


def _number(row: Row, machines: list[Row]) -> str:
    return str(machines.index(row["machine"]) + 1)


def _table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [columns, ["---"] * len(columns), *([*line, *[""] * (len(columns) - len(line))] for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
