"""Pictures and arrays as pixels: decoding, layouts, content, in memory or on disk.

May import `lightning_modules.errors`. A new picture format belongs in `pictures.py`.
"""
