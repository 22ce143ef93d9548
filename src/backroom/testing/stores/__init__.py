"""The contract of a store: tests that each one must pass, in memory, in a database or anywhere else.

    class TestMyStore(StoreContract):
        def make_store(self, backend_name):
            return MyStore(backend_name)

It works under pytest and, beside `unittest.TestCase`, under unittest. Each test starts with empty stores, which is the
subclass's affair, and asks `make_store` for one or two of them.
"""

from backroom.testing.stores.case import StoreCase
from backroom.testing.stores.changing import Changing
from backroom.testing.stores.claiming import Claiming
from backroom.testing.stores.inserting import Inserting
from backroom.testing.stores.leasing import Leasing
from backroom.testing.stores.racing import Racing
from backroom.testing.stores.reading import Reading
from backroom.testing.stores.sharing import Sharing
from backroom.testing.stores.uniqueness import Uniqueness

__all__ = ["StoreCase", "StoreContract"]


class StoreContract(Inserting, Claiming, Changing, Leasing, Uniqueness, Reading, Sharing, Racing):
    """Every test of the contract."""
