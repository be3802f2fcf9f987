"""Estimates from scores alone: pairs of arms, the expected best of a search, and the seeds that show a difference.

May import `experiments.comparison.statistics`.
"""
