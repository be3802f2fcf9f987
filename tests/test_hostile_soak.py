"""An hour of hostile input to real processes: no traceback, no hang, no more than 1 GB. `pytest -m soak`.

HOSTILE_SECONDS sets another duration, HOSTILE_SEED another beginning. What went wrong is printed with its number, from
which `Random(number)` draws the same input again.
"""

import itertools
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from tests import hostile

pytestmark = [pytest.mark.soak, pytest.mark.timeout(10_000)]

ROOT = Path(__file__).parents[1]
DURATION = float(os.environ.get("HOSTILE_SECONDS", "3600"))
FIRST = int(os.environ.get("HOSTILE_SEED", "0"))
LONGEST, MOST_MEMORY = 10.0, 1000  # seconds of the CPU for bad input, beside the imports; MB
STUCK = 120  # seconds of the CPU, or ten times as many of the clock, after which a process is killed


class Ended(NamedTuple):
    code: int
    error: str
    seconds: float  # of the CPU, which other programs do not lengthen
    megabytes: float


def ended(words: Sequence[str], folder: Path) -> Ended:
    """Runs a command in `folder` to its end, and measures it alone, with its children."""
    variables = {"PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(folder / "config"), "WORKBENCH_DATA": str(folder)}

    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        # Half of a surrogate pair is how Python reads a byte that is not UTF-8. No argument can have a NUL.
        texts = (word.replace("\ud800", "\udcff").replace("\0", "") for word in words)
        given = [word.encode("utf-8", "surrogateescape") for word in texts]
        process = subprocess.Popen(
            [sys.executable, "-m", "workbench", *given],
            cwd=folder,
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        resource.prlimit(process.pid, resource.RLIMIT_CPU, (STUCK, STUCK))
        deadline = time.monotonic() + 10 * STUCK
        while (done := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                process.kill()
            time.sleep(0.05)
    _, status, used = done
    process.returncode = os.waitstatus_to_exitcode(status)
    error = (folder / "err").read_text(encoding="utf-8", errors="replace")
    return Ended(process.returncode, error, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def words_of(draw: Random, folder: Path) -> list[str]:
    """A command on hostile input, of which all files are in `folder`."""
    kind = draw.randint(0, 5)
    store = ["--store", str(folder / "store")]
    if kind == 0:
        (folder / "sweep.yaml").write_text(hostile.sweep_recipe(draw), encoding="utf-8", errors="replace")
        return ["sweep", str(folder / "sweep.yaml"), "--budget.trials", "0", *store]  # whatever else it says: refused
    if kind in {1, 2}:
        fields = (hostile.arrays if kind == 1 else hostile.pictures)(draw, folder)
        options = [f"--{name}={'null' if value is None else value}" for name, value in fields.items()]
        recipe = "arrays" if kind == 1 else "image_folder"
        once = ["--trainer.max_epochs=1", "--trainer.threads=1", "--trainer.accelerator=cpu"]
        begun = ["train", recipe, *options, *once, *store]
        return draw.choice(
            [["data", "check", fields["data.path"]], [*begun, "--dry-run"], [*begun, "--name", hostile.text(draw)]]
        )
    return hostile.command_line(draw, folder)


def fault(words: Sequence[str], end: Ended, imports: float) -> str:
    """What is wrong with how a command ended; empty if nothing is."""
    if "Traceback" in end.error or end.code not in {0, 1, 2, 130}:
        return f"exit code {end.code}"
    last = end.error.splitlines()[-1] if end.error else ""
    if end.code == 2 and not last.startswith("error: "):
        return "no line of error"
    if end.code == 2 and end.seconds > imports + LONGEST:
        return f"{end.seconds:.0f} s"
    return f"{end.megabytes:.0f} MB" if end.megabytes > MOST_MEMORY else ""


class Case(NamedTuple):
    number: int
    words: list[str]
    end: Ended


def case(root: Path, number: int) -> Case:
    folder = root / str(number)
    folder.mkdir()
    words = words_of(Random(number), folder)
    end = ended(words, folder)
    shutil.rmtree(folder, ignore_errors=True)
    return Case(number, words, end)


def test_an_hour_of_hostile_input(tmp_path: Path) -> None:
    imports = ended(["data", "check", "digits"], tmp_path).seconds
    until, numbers, at_once = time.monotonic() + DURATION, itertools.count(FIRST), os.cpu_count() or 1
    codes: Counter[int] = Counter()
    faults: list[str] = []
    highest = 0.0
    with ThreadPoolExecutor(at_once) as threads:
        while time.monotonic() < until:
            for number, words, end in threads.map(partial(case, tmp_path), itertools.islice(numbers, 8 * at_once)):
                codes[end.code] += 1
                highest = max(highest, end.megabytes)
                if wrong := fault(words, end, imports):
                    faults.append(f"{number}: {wrong}: {str(words)[:300]}\n{end.error[-2000:]}")
                    print(faults[-1], flush=True)
            print(f"{codes.total()} cases, exit codes {dict(codes)}, at most {highest:.0f} MB", flush=True)
    assert faults == []
