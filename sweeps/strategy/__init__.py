"""Decides what is tried next: search space, samplers, pruners, budget, limits, warm start, the arms of a question.

May not import other rooms of sweeps. Add new samplers or pruners as a kind in `samplers.py` or `pruners.py`.
"""
