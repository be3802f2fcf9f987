"""A whole store copied to another place: rows and artifacts, from SQLite to PostgreSQL and back.

May import `sweeps.study`, for Optuna's database.
"""
