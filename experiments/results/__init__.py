"""Writes a run's results: predictions, scores by class, the data report, and the model.

May import `experiments.pictures`, `experiments.tracking` and below. To add an artifact, name it in
`experiments/artifact_names.py` and put its writer here.
"""
