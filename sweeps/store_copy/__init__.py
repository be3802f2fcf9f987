"""Copies a whole store, rows and artifacts, to another place (SQLite, PostgreSQL), or upgrades its databases.

May import `sweeps.study`, because that room opens Optuna's database.
"""
