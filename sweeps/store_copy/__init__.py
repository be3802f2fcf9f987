"""Copies a whole store, rows and artifacts, to another place: from SQLite to PostgreSQL and back.

May import `sweeps.study`, because that room opens Optuna's database.
"""
