"""How training steps are executed: one batch, or a chunk of batches, at each step of Lightning's loop.

The arithmetic is the same. May import nothing of its floor. To add a way to execute steps, add a file here.
"""
