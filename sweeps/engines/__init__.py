"""Who runs trials: this process, worker processes, a Ray cluster.

May import `sweeps.study`. A new engine is a `Crew` (`crew.py`).
"""
