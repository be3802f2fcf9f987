"""What a sweep found: the leaderboard, the page, the plots.

May import `sweeps.strategy` and `sweeps.study`.
"""
