"""This process: interrupts, memory, its owner mark, progress, and what must not be written down.

May import `experiments.training`, for the epochs that progress shows. A fact about the running process belongs here.
"""
