"""What all rows of a batch share is said once; whatever is shared, the same rows come out."""

import json

import pytest

from backroom.sql.dialect import select, vendor_of
from backroom.tasks.stores.batches import batch_of

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])
COLUMNS = (("id", "text"), ("number", "bigint"), ("is_set", "boolean"), ("queue", "text"))


@pytest.mark.parametrize(
    "rows",
    [
        [("a", 1, True, "mail")],
        [("a", 1, True, "mail"), ("b", 1, True, "mail"), ("c", 1, True, "mail")],
        [("a", 2**60, False, None), ("b", 2**60, False, None)],
        [("a", 1, True, 'ä "\\ %s'), ("b", None, False, 'ä "\\ %s'), ("c", 3, None, 'ä "\\ %s')],
        [("a", None, None, None), ("b", 1, True, "")],
        [("a", None, True, "same"), ("a", None, True, "same")],
    ],
)
def test_the_rows_come_out_as_they_went_in(store_database, rows):
    batch = batch_of(vendor_of(store_database), COLUMNS, rows)
    statement = f"SELECT id, number, is_set, queue FROM {batch.item} AS batch ORDER BY id"
    assert select(store_database, statement, batch.parameters) == rows


def test_what_all_rows_share_is_said_once():
    told = ["x" * 1_000, None]
    batch = batch_of(
        "postgresql", (("id", "text"), ("payload", "text"), ("due", "bigint")), [("a", *told), ("b", *told)]
    )
    assert batch.parameters == [*told, json.dumps([["a"], ["b"]], separators=(",", ":"))]
