"""Reports a sweep's result: the leaderboard, the HTML page, the plots.

May import `sweeps.strategy` and `sweeps.study`.
"""
