"""What Django's `cache.models` has, as a model of an app that is installed here."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import models
from django.utils import timezone


def expensive_calculation() -> dt.datetime:
    counted: Any = expensive_calculation
    counted.num_runs += 1
    return timezone.now()


class Poll(models.Model):
    question = models.CharField(max_length=200)
    answer = models.CharField(max_length=200)
    pub_date = models.DateTimeField("date published", default=expensive_calculation)

    class Meta:
        app_label = "accounts"

    def __str__(self) -> str:
        return self.question
