"""The store, all code that writes runs to it and reads them back, the spool, and the dashboard.

May import `experiments.process` and `experiments.training`. No other room writes to MLflow.
"""
