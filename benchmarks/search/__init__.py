"""Which sampler, which pruner, which seeds: measured on tables of real trials (python -m benchmarks.search -h).

A table holds some thousand trials of one space with their learning curves. Against it, a sweep is simulated in a
fraction of a second, so that hundreds of sweeps can be compared.
"""
