"""Everything around the training steps: epochs, progress, checkpoints, exact mode, random state, memory, the trace.

May import only `experiments.config`. Code that runs after every epoch is an observer: see `epochs.py`.
"""
