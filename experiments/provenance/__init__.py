"""Records what is needed to run a run again (code, packages, data, machine), and reads the record back.

May import `experiments.process`, `experiments.tracking` and `experiments.training`. A new fact about a run's origin is
added in `gather.py`, and in `origins.py` if it may change numbers.
"""
