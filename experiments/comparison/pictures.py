"""Chooses the pictures of a comparison, and reads what they show from the artifacts of its runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.artifact_names import CONFIG, TRACE
from experiments.comparison import plots as comparison_plots
from experiments.comparison.comparable import same_images
from experiments.comparison.compare import Document
from experiments.comparison.differences import Recorded, read_provenances
from experiments.comparison.objective import Split
from experiments.comparison.significance import NEXT, read_predictions
from experiments.comparison.text import labels
from experiments.config import with_located_files
from experiments.recipe import build, read_recipe
from experiments.results.artifacts import Artifacts
from experiments.tracking.runs import RunSummary
from experiments.tracking.trust import is_trusted
from experiments.training.trace import as_scores, read_trace
from lightning_modules import DataConfig, ImageDataModule, InputError
from lightning_modules.pipeline.splits import Subset

_MOST_PARAMS = 10  # in the plot of parallel coordinates


@dataclass(frozen=True)
class Pictures:
    """Draws into `folder`. `drawn` maps each title to its file; `notes` says which pictures are missing, and why."""

    artifacts: Artifacts
    runs: Mapping[str, RunSummary]  # by their ids
    document: Document
    folder: Path
    drawn: dict[str, Path]
    notes: list[str]

    def draw(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self._curves()
        self._parallel_coordinates()
        self._pair()

    def _path(self, title: str) -> Path:
        self.drawn[title] = self.folder / f"{title.lower().replace(' ', '_')}.png"
        return self.drawn[title]

    def _curves(self) -> None:
        """Draws the learning curves of the best few runs."""
        best = [place["run_id"] for place in self.document["ranking"]] or list(self.runs)
        histories = {}
        for run_id in best[: 1 + NEXT]:
            if (path := self.artifacts.find(self.runs[run_id], TRACE)) is not None:
                lines = [as_scores(line) for line in read_trace(path) if line["stage"] == "epoch"]
                histories[labels(self.document)[run_id]] = lines
        if any(histories.values()):
            comparison_plots.plot_curves(histories, self._path("Learning curves"))

    def _parallel_coordinates(self) -> None:
        ranking = self.document["ranking"]
        rows = [row for row in self.document["differences"] if row["kind"] == "param" and row["field"] != "seed"]
        values = {row["field"]: [row["values"][place["run_id"]] for place in ranking] for row in rows}
        differing = {name: column for name, column in values.items() if len(set(column)) > 1}
        if len(ranking) > 2 and differing:
            shown = dict(list(differing.items())[:_MOST_PARAMS])
            scores = [place["score"] for place in ranking]
            path = self._path("Parallel coordinates")
            comparison_plots.plot_parallel_coordinates(shown, scores, self.document["metric"], path)

    def _pair(self) -> None:
        """Draws the two runs of the first test; if it compares groups, the first seed of each."""
        if not self.document["tests"]:
            return
        members = {group["name"]: group["run_ids"] for group in self.document["groups"]}
        ids = [members.get(each, [each])[0] for each in self.document["tests"][0]["between"]]
        recorded = read_provenances(self.artifacts, [self.runs[run_id] for run_id in ids])
        split: Split = "test" if self.document["metric"].startswith("test/") else "val"
        first, second = (read_predictions(self.artifacts, each.run, split) for each in recorded)
        if first is None or second is None or len(same_images(recorded, split)) != 1:
            return
        pair = (first, second)
        names = (labels(self.document)[ids[0]], labels(self.document)[ids[1]])
        subset, classes = self._images(recorded[0], split)
        classes = classes or [str(k) for k in range(first.probabilities.shape[1])]
        comparison_plots.plot_confusion_difference(pair, names, classes, self._path("Confusion matrix difference"))
        comparison_plots.plot_class_change(pair, names, classes, self._path("Change by class"))
        if subset is not None:
            comparison_plots.plot_disagreements(subset, pair, names, classes, self._path("Disagreements"))

    def _images(self, recorded: Recorded, split: Split) -> tuple[Subset | None, Sequence[str]]:
        """Returns the split's images, if the data have not changed since the run, and the names of the classes."""
        path, provenance = self.artifacts.find(recorded.run, CONFIG), recorded.provenance
        if path is None or provenance is None:
            return self._without_images("the run has no config.yaml or provenance.json")
        try:
            tree = with_located_files(read_recipe(path), [], is_recorded=True)
            if "." in str(tree["data"]["source"]) and not is_trusted(self.artifacts.store):
                return self._without_images("that would run code of a store that you did not make")
            data = ImageDataModule(build(DataConfig, tree["data"]))
            data.setup()
        except (InputError, KeyError) as error:
            return self._without_images(str(error))
        subset = data.splits[split]
        recorded_hashes = (provenance["data_sha256"], provenance["split_sha256"][split])
        if (data.dataset.sha256, subset.order_sha256) != recorded_hashes:
            return self._without_images("the data have changed since the run")
        return subset, data.class_names

    def _without_images(self, reason: str) -> tuple[None, Sequence[str]]:
        self.notes.append(f"the images on which two runs disagree are not shown: {reason}")
        return None, ()
