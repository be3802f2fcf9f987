"""Finds what a store can do without, and removes it: `workbench clean`, and what a sweep removes once it is done.

May import `experiments.tracking`, `experiments.training`, `experiments.code` and `experiments.process`. One file per
kind of thing: each yields `Item`s. Every removal leaves true records if it is killed, and can be done again.
"""
