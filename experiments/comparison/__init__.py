"""Compares runs: what differs between them, and whether one is really better.

May import every room except `experiments.reproduction`. A new kind of difference belongs in `differences.py`, a test in
`significance.py`, a picture in `pictures.py` (what it shows) and `plots.py` (how it is drawn).
"""
