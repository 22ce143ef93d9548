"""A record as Django's `TaskResult`."""

from __future__ import annotations

import dataclasses
import sys
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

from backroom.tasks import results
from tests.tasks import work


def test_every_field_is_known_by_its_name() -> None:
    assert sorted(results.FIELDS) == sorted(each.name for each in dataclasses.fields(results.TaskResult))


def test_a_value_is_in_its_field_in_whatever_order_django_declares_them(monkeypatch: Any) -> None:
    fields = dataclasses.fields
    monkeypatch.setattr(dataclasses, "fields", lambda of: tuple(reversed(fields(of))))
    spec = spec_from_file_location("results_of_another_django", results.__file__)
    assert spec
    assert spec.loader
    again = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, again)
    spec.loader.exec_module(again)
    values = {name: name for name in results.FIELDS} | {"task": work.note}
    made = again._made(*values.values())
    assert {name: getattr(made, name) for name in results.FIELDS} == values
