"""Draws the pictures that a run leaves in `plots/`, as small PNG files: one style, letters of every script.

Knows arrays and names, nothing of runs. May import `experiments.config`.
"""
