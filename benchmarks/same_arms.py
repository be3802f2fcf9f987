"""How often a question tells apart two arms that are the same setting under two names: it should hardly ever.

python -m benchmarks.same_arms --questions 20 --trials 16 --seeds 5 [--repeats 3]

Each question has a seed of its own, 0 for the first. Both arms are tuned in the same space, each on its own, on the
embedded digits. Without repeats an interval covers only the two tuned configurations, which differ a little.
"""

import argparse
import json
import tempfile
from pathlib import Path

from experiments import Store
from sweeps import load_sweep, run

RECIPE = """
recipe: digits
overrides: {trainer.max_epochs: 5}
space: {optimizer.lr: {low: 1.0e-3, high: 3.0e-2, log: true}}
question: {arms: {one: {}, other: {}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.same_arms", description=__doc__)
    for name, value in (("questions", 20), ("trials", 16), ("seeds", 5), ("repeats", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--store", type=Path, help="default: a temporary folder")
    args = parser.parse_args()
    overrides = {"budget.trials": args.trials, "finalists.seeds": args.seeds, "question.repeats": args.repeats}
    with tempfile.TemporaryDirectory() as scratch:
        store = Store.open(args.store or Path(scratch) / "store")
        recipe = Path(scratch) / "same.yaml"
        recipe.write_text(RECIPE)
        claims = 0
        for seed in range(args.questions):
            sweep = load_sweep(str(recipe), overrides | {"seed": seed}, name=f"same {seed}")
            answer = run(sweep, store=store, workers=None).question
            assert answer is not None
            claims += sum(pair.distinguishable for pair in answer.pairs)
            print(f"seed {seed}: {answer.answer}", flush=True)
        print(json.dumps({"questions": args.questions, "told_apart": claims}))


if __name__ == "__main__":
    main()
