"""Pictures and arrays as pixels: decoding, layouts, hashes, images in memory or on disk.

May import `lightning_modules.errors`. Add new picture formats in `pictures.py`.
"""
