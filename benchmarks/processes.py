"""One measurement in its own process: a version of the job (benchmarks/child.py), or any Python command."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

Result = dict[str, Any]  # of one measurement: `seconds`, and `answer` and `peak_mb` if they are known


def child(version: str, *, folder: Path, epochs: int = 1, threads: int = 1, seed: int = 0) -> Result:
    """Runs one version; imports are not timed. `folder` contains the data, and what the version leaves."""
    options = {"folder": folder, "epochs": epochs, "threads": threads, "seed": seed}
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    command = [sys.executable, "-m", "benchmarks.child", version, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{version} failed:\n{done.stderr[-3000:]}")
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def python(*words: str) -> Result:
    """The time that Python takes for this command line, from the start of the process to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], capture_output=True, check=True)
    return {"seconds": time.perf_counter() - start}
