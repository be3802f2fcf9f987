"""The Optuna studies of a sweep: slots, trials, finalists, their storage, and recovery after a process was killed.

May import `sweeps.strategy`. Only `storage.py` uses private names of Optuna.
"""
