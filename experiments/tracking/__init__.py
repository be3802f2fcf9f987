"""The store and everything written to it: runs, metrics, tags, the spool, the dashboard; and runs read back.

May import `experiments.process` and `experiments.training`. Nobody else writes to MLflow.
"""
