"""Runs a past run again: the verdict, and the causes of a difference.

May import every room except `experiments.comparison`. In the scratch checkout, `experiments/rerun.py` runs.
"""
