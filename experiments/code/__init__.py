"""The code that runs: what the project held when a process began, what was loaded of it, and the store's copies of it.

May import `experiments.process`. `loading.py` comes before everything else of the project in a process.
"""
