"""Records tables of trials, and replays sweeps against them. The tables in `tables/` were recorded with `record`."""

import argparse
import tempfile
from pathlib import Path

from benchmarks.search.table import TABLES, pack, read_table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    commands = parser.add_subparsers(required=True)
    recorder = commands.add_parser("record", help="add real trials to a table; stop and start it as you like")
    recorder.add_argument("task", choices=("digits", "fashion_mnist"))
    recorder.add_argument("--to", type=Path, required=True, metavar="FILE.jsonl", help="the table, which grows")
    recorder.add_argument("--trials", type=int, default=1500, metavar="N", help="in all (default: 1500)")
    recorder.add_argument("--part", type=int, default=0, metavar="N", help="if several processes record, each its own")
    recorder.set_defaults(run=_record)
    packer = commands.add_parser("pack", help="write a recorded table to tables/, compressed")
    packer.add_argument("task", choices=("digits", "fashion_mnist"))
    packer.add_argument("recorded", type=Path, nargs="+", metavar="FILE.jsonl")
    packer.set_defaults(run=_pack)
    seeds = commands.add_parser("seeds", help="by how much shared seeds lower the noise of a difference")
    seeds.add_argument("task", choices=("digits", "fashion_mnist"))
    seeds.add_argument("--table", type=Path, metavar="FILE", help="the settings (default: the packed table)")
    seeds.add_argument("--to", type=Path, required=True, metavar="FILE.jsonl", help="the trainings; continued")
    seeds.add_argument("--settings", type=int, default=6, metavar="K", help="settings that are compared (default: 6)")
    seeds.add_argument("--seeds", type=int, default=10, metavar="S", help="seeds of each (default: 10)")
    seeds.set_defaults(run=_seeds)
    ways = commands.add_parser("ways", help="simulate sweeps with each sampler and pruner, and compare regrets")
    ways.add_argument("task", choices=("digits", "fashion_mnist"))
    ways.add_argument("--table", type=Path, nargs="+", metavar="FILE", help="its parts (default: the packed table)")
    ways.add_argument("--replays", type=int, default=200, metavar="N", help="simulated sweeps of each (default: 200)")
    ways.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="ways whose name contains one of these")
    ways.add_argument("--to", type=Path, metavar="FILE.json", help="keeps the regrets, so that it can be continued")
    ways.set_defaults(run=_ways)
    args = parser.parse_args()
    args.run(args)


def _record(args: argparse.Namespace) -> None:
    from benchmarks.search.record import TASKS, record

    with tempfile.TemporaryDirectory() as scratch:
        record(TASKS[args.task], args.to, args.trials, Path(scratch), args.part)


def _seeds(args: argparse.Namespace) -> None:
    from benchmarks.search.record import TASKS
    from benchmarks.search.seeds import noise_ratio, train_settings

    table = read_table(args.table or TABLES / f"{args.task}.jsonl.xz")
    with tempfile.TemporaryDirectory() as scratch:
        values = train_settings(TASKS[args.task], table, args.to, args.settings, args.seeds, Path(scratch))
    found = noise_ratio(values)
    print(f"{args.task}: {args.settings} settings, {args.seeds} seeds; deviation of a difference {found.deviation:.4f}")
    print(f"variance with shared : independent seeds {found.ratio:.2f} [{found.low:.2f}, {found.high:.2f}]")


def _ways(args: argparse.Namespace) -> None:
    from benchmarks.search.record import TASKS
    from benchmarks.search.ways import WAYS, compare
    from benchmarks.search.world import World
    from sweeps import load_sweep

    task = TASKS[args.task]
    rows = [row for path in args.table or [TABLES / f"{args.task}.jsonl.xz"] for row in read_table(path)]
    world = World(rows, load_sweep(task.recipe).space, task.val_images)
    chosen = [way for way in WAYS if any(text.lower() in way.name.lower() for text in args.only)]
    compare(world, chosen, args.replays, args.to)


def _pack(args: argparse.Namespace) -> None:
    pack([row for path in args.recorded for row in read_table(path)], TABLES / f"{args.task}.jsonl.xz")


main()
