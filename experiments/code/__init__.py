"""The code that runs: what the project held when a process began, what was loaded of it, and the store's copies of it.

May import `experiments.process` and `experiments.recipe`. In a process, `loading.py` comes before all else of the
project.
"""
