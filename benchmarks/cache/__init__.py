"""Caches side by side: ours beside Django's seven ways, django-redis, django-valkey and diskcache."""
