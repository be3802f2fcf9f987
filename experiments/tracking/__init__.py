"""The store, all code that writes runs to it and reads them back, and the spool.

May import `experiments.process` and `experiments.training`. No other room writes to MLflow.
"""
