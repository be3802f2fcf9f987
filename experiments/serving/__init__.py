"""A run's model in use: its answers for new images.

May import tracking. To add a way to use a model, add a file here.
"""
