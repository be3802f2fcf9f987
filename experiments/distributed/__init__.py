"""One run on several devices: starts the processes that train with the run's own, and what these do.

May import `tasks` and `training`. Nothing here writes to the store: the run's own process alone does.
"""
