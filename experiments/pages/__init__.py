"""Draws a result as one HTML file: templates, scales of charts, style and script.

Knows nothing of runs and sweeps: what is drawn comes from the rooms that call it.
"""
