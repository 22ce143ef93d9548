"""Measurements of Backroom beside its peers; nothing in `src` or `tests` imports them."""
