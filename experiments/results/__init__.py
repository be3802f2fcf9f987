"""What a run leaves to look at and to use: predictions, scores by class, plots, the data report, the model.

May import `experiments.tracking` and below. A new artifact: its name in `experiments/artifact_names.py`, its writer
here.
"""
