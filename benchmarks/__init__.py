"""Compares the workbench with textbook versions of the same job. `make bench` runs it."""
