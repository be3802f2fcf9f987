"""Databases that the user names or that an earlier version made: addresses, connections, and the version of a schema.

May import `experiments.process`.
"""
