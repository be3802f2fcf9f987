"""MLflow's dashboard on a store: its server, links to its pages, and the views that a sweep saves there.

May import `experiments.tracking`.
"""
