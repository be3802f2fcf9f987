"""Runs one version of the job in a process of its own, and prints what it took as one line of JSON."""

import argparse
import contextlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

VERSIONS = ("short", "tracked", "tracked_many_metrics", "untracked", "bare_loop", "pytorch", "lightning", "keras")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("version", choices=VERSIONS)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    args = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):
        result = run(args)
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(result))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Imports first; the time counts from the first byte of data read to the last artifact written."""
    data = args.folder / "data.npz"
    if args.version == "keras":
        os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(args.threads)
        import tensorflow

        from benchmarks import textbook_keras

        tensorflow.keras.utils.set_random_seed(args.seed)
        start = time.perf_counter()
        splits = standardized(data)
        accuracy = textbook_keras.train(splits, args.epochs)
    elif args.version in {"pytorch", "lightning"}:
        import torch

        from benchmarks import textbook_lightning, textbook_pytorch

        torch.set_num_threads(args.threads)
        torch.manual_seed(args.seed)
        start = time.perf_counter()
        tensors = {
            name: (torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(y))
            for name, (x, y) in standardized(data).items()
        }
        if args.version == "pytorch":
            accuracy = textbook_pytorch.train(tensors, args.epochs)
        else:
            accuracy = textbook_lightning.train(tensors, args.epochs, args.folder)[1]
    else:
        import torch

        from benchmarks import workbench_versions
        from experiments import load_config

        torch.set_num_threads(args.threads)
        overrides = {"seed": args.seed, "trainer.max_epochs": args.epochs, "trainer.threads": args.threads}
        if args.version == "short":
            config, store, version = load_config("digits", overrides), args.folder, workbench_versions.tracked
        else:
            overrides |= {"data.source": "arrays", "data.path": str(data)}
            config, store = load_config("fashion_mnist", overrides), args.folder / "store"
            version = getattr(workbench_versions, args.version)
        start = time.perf_counter()
        accuracy = version(config, store)
    return {"seconds": time.perf_counter() - start, "test_accuracy": accuracy}


def standardized(path: Path) -> dict[str, tuple[Any, Any]]:
    """The splits, scaled pixel by pixel by scikit-learn's StandardScaler fitted on train, as the textbook does."""
    import numpy as np
    from sklearn.preprocessing import StandardScaler

    arrays = np.load(path)
    scaler = StandardScaler().fit(arrays["x_train"].reshape(len(arrays["x_train"]), -1))
    splits = {}
    for name in ("train", "val", "test"):
        images = arrays[f"x_{name}"]
        scaled = scaler.transform(images.reshape(len(images), -1)).astype(np.float32)
        splits[name] = (scaled.reshape(*images.shape, 1), arrays[f"y_{name}"])
    return splits


if __name__ == "__main__":
    main()
