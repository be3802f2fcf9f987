"""The file names of all artifacts: paths relative to a run's artifact folder. No other file spells out these names.

Do not change a name: stores made by earlier versions contain it. To add an artifact, add a line here.
"""

# Every run writes these.
CONFIG = "config.yaml"
PROVENANCE = "provenance.json"
PATCH = "uncommitted.patch"
SOURCES = "sources.zip"  # the code, where code.git does not hold it: without git, and in runs of earlier versions
CODE_BUNDLE = "code.bundle"  # the code, where artifacts are kept on a server
REQUIREMENTS = "requirements.txt"
RECORD = "record.json"  # written last
RECORD_SIGNATURE = "record.json.sig"
REMOVED = "removed.json"  # what the workbench has removed since record.json was written
DATA_REPORT = "data_report.json"
TRACE = "trace.jsonl"
LAST_CHECKPOINT = "checkpoints/last.ckpt"
BEST_CHECKPOINT = "checkpoints/best.ckpt"
NEW_CHECKPOINT = "checkpoints/new.ckpt"  # one that is being written
PREDICTIONS = "predictions.npz"
NEW_PREDICTIONS = "new.npz"  # ones that are being written
CLASS_SCORES = "class_scores.json"
TRACEBACK = "traceback.txt"  # of a run that failed

# A run that logs its model also writes these.
MODEL = "model"
NETWORK = "network.txt"

# Pictures.
DATA_REPORT_PLOT = "plots/data_report.png"
CURVES_PLOT = "plots/curves.png"
CONFUSION_PLOT = "plots/confusion_matrix_{split}.png"
CLASS_SCORES_PLOT = "plots/class_scores_{split}.png"
PREDICTIONS_PLOT = "plots/predictions_{split}.png"  # by a module of the user's own
MISTAKES_PLOT = "plots/worst_mistakes_{split}.png"

# Reproductions, comparisons, evaluations, sweeps and repeats write these.
REPRODUCTION = "reproduction.json"
COMPARISON = "comparison.json"
COMPARISON_PAGE = "comparison.html"
EVALUATION = "evaluation.json"
EVALUATION_PAGE = "evaluation.html"
EVALUATION_ANSWERS = "evaluation.npz"
LEADERBOARD = "leaderboard.json"
NEW_LEADERBOARD = "leaderboard.json.new"  # one that is being written
REPORT_PAGE = "report.html"
NEW_REPORT_PAGE = "report.html.new"  # one that is being written
REPEATS = "repeats.json"

# Every page has this in its first lines, so that a page in the project's folder is not taken for code.
PAGE_MARK = '<meta name="generator" content="lightning-workbench">'
