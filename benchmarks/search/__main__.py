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
    args = parser.parse_args()
    args.run(args)


def _record(args: argparse.Namespace) -> None:
    from benchmarks.search.record import TASKS, record

    with tempfile.TemporaryDirectory() as scratch:
        record(TASKS[args.task], args.to, args.trials, Path(scratch), args.part)


def _pack(args: argparse.Namespace) -> None:
    pack([row for path in args.recorded for row in read_table(path)], TABLES / f"{args.task}.jsonl.xz")


main()
