"""What a project imports: cached functions, pages and fragments, and what invalidates them. Reads no settings."""

from backroom.cache.decorators import cache_page, vary_on_cookies
from backroom.cache.dependencies import adepend_on, depend_on
from backroom.cache.fragments import ainvalidate_fragment, invalidate_fragment
from backroom.cache.functions import CachedFunction, afetch, aforget, cached, fetch, forget
from backroom.cache.generations import InvalidationFailed, ainvalidate, invalidate
from backroom.cache.pages.places import apurge, purge
from backroom.cache.policies import Policy
from backroom.cache.rows import tagged
from backroom.cache.writes import invalidate_on_commit

__all__ = [
    "CachedFunction",
    "InvalidationFailed",
    "Policy",
    "adepend_on",
    "afetch",
    "aforget",
    "ainvalidate",
    "ainvalidate_fragment",
    "apurge",
    "cache_page",
    "cached",
    "depend_on",
    "fetch",
    "forget",
    "invalidate",
    "invalidate_fragment",
    "invalidate_on_commit",
    "purge",
    "tagged",
    "vary_on_cookies",
]
