"""Reports a sweep's result: the leaderboard, the audit, the HTML page.

May import `sweeps.strategy` and `sweeps.study`.
"""
