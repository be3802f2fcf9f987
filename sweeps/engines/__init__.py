"""The engines that run trials: this process, worker processes, or a Ray cluster.

May import `sweeps.study`. A new engine implements `Crew` (`crew.py`).
"""
