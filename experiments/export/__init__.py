"""A run's model as files that work without this project: weights and source, programs, a container.

May import serving, results, provenance, code and tracking. To add a format, write a file here, and let `export.py` call
it and `standalone.py`, which is copied into every export, load it.
"""
