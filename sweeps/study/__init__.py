"""What has been tried: the study and its slots, trials, finalists, their storage, and the repair after a kill.

May import `sweeps.strategy`. Optuna's private names stand in `storage.py` alone.
"""
