"""Operations of offloaded views belong to the visitor's session: on our engines as on Django's."""

from __future__ import annotations

import pytest

from tests.offload.test_owners import (
    test_a_signed_in_user_finds_their_operations_from_any_device,
    test_a_user_who_takes_over_a_session_finds_nothing_of_the_one_before,
    test_an_operation_dies_with_the_session,
    test_an_operation_survives_a_new_session_key,
    test_an_operation_survives_signing_in,
    test_anyone_else_gets_404_and_changes_nothing,
    test_signing_out_takes_the_sessions_operations_away,
    test_the_owner_reaches_every_resource,
)

__all__ = [
    "test_a_signed_in_user_finds_their_operations_from_any_device",
    "test_a_user_who_takes_over_a_session_finds_nothing_of_the_one_before",
    "test_an_operation_dies_with_the_session",
    "test_an_operation_survives_a_new_session_key",
    "test_an_operation_survives_signing_in",
    "test_anyone_else_gets_404_and_changes_nothing",
    "test_signing_out_takes_the_sessions_operations_away",
    "test_the_owner_reaches_every_resource",
]

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.offload.site")]


@pytest.fixture(autouse=True)
def _on_our_engine(site, settings):
    settings.ROOT_URLCONF = "tests.offload.site"
