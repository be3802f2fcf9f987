"""Compares runs: what differs between them, and whether one is really better.

May import every room except `experiments.reproduction`, `experiments.serving` and `experiments.evaluation`. A new kind
of difference belongs in `differences.py`, a test in `significance.py`, what is drawn in `details.py` (what it shows)
and `templates/` (how).
"""
