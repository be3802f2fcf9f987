"""Repeats of one configuration, over seeds or over the folds of a cross-validation: their mean with its interval.

They are run like a sweep without a search: slots, workers, and recovery after a process was killed are those of
`sweeps.study` and `sweeps.engines`, which this room may import.
"""
