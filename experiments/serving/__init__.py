"""A run's model in use: its answers for new images, in this process and over HTTP.

May import tracking and pages. To add a way to use a model, add a file here.
"""
