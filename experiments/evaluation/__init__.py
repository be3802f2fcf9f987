"""Evaluates a run's model: accuracy, calibration, robustness, agreement of seeds; and whether it may be the champion.

May import comparison, serving, pages, tasks and what these import. A new corruption belongs in `corruptions.py`, what
is drawn in `page.py` (what it shows) and `templates/` (how).
"""
