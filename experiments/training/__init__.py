"""What happens beside the training steps: the end of an epoch, checkpoints, exactness, random state, the trace.

May import `experiments.config` alone. Something to be done after every epoch is an observer: see `epochs.py`.
"""
