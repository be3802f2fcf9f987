"""What is tried next: the space, samplers, pruners, the budget, limits, a warm start.

May import nothing of the other rooms of sweeps. A new sampler or pruner is one kind in `samplers.py` or `pruners.py`.
"""
