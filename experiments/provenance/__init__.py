"""What a run needs to be run again (code, packages, data, machine), and that record read back.

May import `experiments.process`, `experiments.tracking` and `experiments.training`. A new fact about a run's origin is
added in `gather.py`, and in `origins.py` where it may change numbers.
"""
