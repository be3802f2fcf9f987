"""Everything around the training steps: the end of an epoch, checkpoints, exact mode, random state, the trace.

May import only `experiments.config`. Code that runs after every epoch is an observer: see `epochs.py`.
"""
