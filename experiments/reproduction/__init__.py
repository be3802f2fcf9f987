"""A past run again: its verdict, and the causes where it differs.

May import every room but `experiments.comparison`. What starts in the scratch checkout is `experiments/rerun.py`.
"""
