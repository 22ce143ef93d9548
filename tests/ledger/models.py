"""Books, and the lines in them."""

from __future__ import annotations

from django.db import models


class Book(models.Model):
    name = models.CharField(max_length=100, unique=True)

    def __str__(self) -> str:
        return self.name


class Line(models.Model):
    book = models.ForeignKey(Book, on_delete=models.CASCADE)

    def __str__(self) -> str:
        return f"a line of {self.book_id}"
