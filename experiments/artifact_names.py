"""What the files that runs leave are called: their paths among a run's artifacts. Nobody else writes these names.

Stores made by earlier versions hold these names, so they stay as they are. A new artifact adds a line here.
"""

# Of every run.
CONFIG = "config.yaml"
PROVENANCE = "provenance.json"
PATCH = "uncommitted.patch"
SOURCES = "sources.zip"
REQUIREMENTS = "requirements.txt"
DATA_REPORT = "data_report.json"
TRACE = "trace.jsonl"
LAST_CHECKPOINT = "checkpoints/last.ckpt"
BEST_CHECKPOINT = "checkpoints/best.ckpt"
PREDICTIONS = "predictions.npz"
CLASS_SCORES = "class_scores.json"

# Of a run that logs its model.
MODEL = "model"
NETWORK = "network.txt"

# Pictures.
PLOTS = "plots"
DATA_REPORT_PLOT = "plots/data_report.png"
CURVES_PLOT = "plots/curves.png"
CONFUSION_PLOT = "plots/confusion_matrix_{split}.png"
MISTAKES_PLOT = "plots/worst_mistakes_{split}.png"

# Of a reproduction, a comparison, a sweep.
REPRODUCTION = "reproduction.json"
COMPARISON = "comparison.json"
COMPARISON_PAGE = "comparison.html"
LEADERBOARD = "leaderboard.json"
REPORT_PAGE = "report.html"
