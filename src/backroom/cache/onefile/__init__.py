"""A cache in one SQLite file: how it is opened, what it is asked, what it forgets, and what becomes of it in trouble.

It knows ids, keys, moments and payloads; nothing of Django's cache API, which stands above it in `backends/`.
"""
