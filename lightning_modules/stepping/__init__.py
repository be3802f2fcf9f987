"""How training steps are executed: one batch, or a chunk of batches, at each step of Lightning's loop.

The arithmetic is the same; a captured step may differ in the last digits. May import only `lightning_modules.log`. To
add a way to execute steps, add a file here.
"""
