"""Models whose rows have tags: invalidated on commit of the right database, and private until then."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models, transaction
from django.db.models.signals import class_prepared, m2m_changed, post_delete, post_save, pre_save
from django.test import override_settings
from django.test.utils import isolate_apps

from backroom.cache import depend_on, fetch, invalidate_on_commit, tagged
from backroom.cache.generations import current
from backroom.cache.steps import run
from backroom.cache.writes import is_uncommitted

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def tags():
    """Declare tags for models of other apps, and take them back."""
    signals = (class_prepared, pre_save, post_save, post_delete, m2m_changed)
    before = [list(signal.receivers) for signal in signals]
    tagged("users", "user:{pk}", "staff:{is_staff}", lambda user: f"name:{user.username}")(User)
    tagged("group:{pk}")(Group)
    yield
    for signal, receivers in zip(signals, before, strict=True):
        signal.receivers = receivers
        signal.sender_receivers_cache.clear()


def generations(*names):
    return run(current("default", names))


def changed(before):
    return {tag for tag, generation in generations(*before).items() if generation != before[tag]}


def test_saving_and_deleting_a_row_invalidates_its_tags():
    user = User.objects.create(username="ann")
    other = User.objects.create(username="bob")
    before = generations("users", f"user:{user.pk}", f"user:{other.pk}", "name:ann")
    user.save()
    assert changed(before) == {"users", f"user:{user.pk}", "name:ann"}
    before = generations(*before)
    key = user.pk
    user.delete()
    assert changed(before) == {"users", f"user:{key}", "name:ann"}


def test_a_row_that_changes_from_one_tag_to_another_invalidates_both():
    user = User.objects.create(username="ann")
    before = generations("staff:False", "staff:True", "name:ann", "name:eve")
    user.is_staff = True
    user.username = "eve"
    user.save()
    assert changed(before) == set(before)


@pytest.mark.parametrize("change", ["add", "remove", "clear", "set", "from the other end", "clear from the other end"])
def test_a_many_to_many_relation_invalidates_both_its_ends(change):
    user, group = User.objects.create(username="ann"), Group.objects.create(name="g")
    if change not in {"add", "set", "from the other end"}:
        user.groups.add(group)
    before = generations(f"user:{user.pk}", f"group:{group.pk}")
    match change:
        case "add":
            user.groups.add(group)
        case "remove":
            user.groups.remove(group)
        case "clear":
            user.groups.clear()
        case "set":
            user.groups.set([group])
        case "from the other end":
            group.user_set.add(user)
        case _:
            group.user_set.clear()
    assert changed(before) == set(before)


@pytest.fixture
def heirs():
    """Give a proxy of User, and models that inherit from Group and from one that has no table of its own."""
    with isolate_apps("tests.cache"):

        class Clerk(User):
            class Meta:
                proxy = True
                app_label = "cache"

        class Team(Group):
            town = models.CharField(max_length=9)

            class Meta:
                app_label = "cache"

        @tagged("kept:{pk}", "about:{subject}", lambda row: f"length:{len(row.subject)}")
        class Kept(models.Model):
            subject = models.CharField(max_length=9)

            class Meta:
                abstract = True
                app_label = "cache"

        class Note(Kept):
            def __str__(self):
                return "note"

        tables = (Team, Note)
        with connection.schema_editor() as editor:
            for each in tables:
                editor.create_model(each)
        yield Clerk, Team, Note
        with connection.schema_editor() as editor:
            for each in tables:
                editor.delete_model(each)


def test_rows_that_are_saved_as_what_inherits_from_the_model_have_its_tags(heirs):
    clerk_model, team_model, note_model = heirs
    user, team = clerk_model.objects.create(username="ann"), team_model.objects.create(name="t", town="Ulm")
    before = generations(f"user:{user.pk}", "name:ann", "name:eve", f"group:{team.pk}")
    user.username = "eve"
    user.save()
    team.save()
    assert changed(before) == set(before)
    before = generations(f"user:{user.pk}", f"group:{team.pk}")
    user.groups.add(team)
    assert changed(before) == set(before)
    note = note_model.objects.create()
    before = generations(f"user:{user.pk}", f"group:{team.pk}", f"kept:{note.pk}")
    for row in (user, team, note):
        row.delete()
    assert changed(before) == set(before)


def test_a_row_of_a_model_whose_tags_are_of_one_without_a_table_can_change(heirs):
    *_, note_model = heirs
    note = note_model.objects.create(subject="tea")
    before = generations("about:tea", "about:coffee", "length:3", "length:6")
    note.save()
    assert changed(before) == {"about:tea", "length:3"}
    before = generations(*before)
    note.subject = "coffee"
    note.save()
    assert changed(before) == set(before)


def test_a_row_of_a_proxy_or_of_an_heir_with_a_table_can_change(heirs):
    clerk_model, team_model, _ = heirs
    tagged("team:{name}")(Group)
    user, team = clerk_model.objects.create(username="ann"), team_model.objects.create(name="t", town="Ulm")
    before = generations("name:ann", "name:eve", "team:t", "team:u")
    user.username, team.name = "eve", "u"
    user.save()
    team.save()
    assert changed(before) == set(before)


@pytest.mark.parametrize("end", ["club", "person", "follower", "followed"])
def test_a_relation_is_cleared_by_its_own_two_ends_whatever_else_refers_to_it(end):
    with isolate_apps("tests.cache"):

        @tagged("person:{pk}")
        class Person(models.Model):
            first = models.ForeignKey("Joining", models.SET_NULL, null=True, db_constraint=False)
            follows = models.ManyToManyField("self", symmetrical=False, related_name="followers")

            class Meta:
                app_label = "cache"

            def __str__(self):
                return "person"

        @tagged("club:{pk}")
        class Club(models.Model):
            members = models.ManyToManyField(
                Person, through="Joining", through_fields=("club", "person"), related_name="clubs"
            )

            class Meta:
                app_label = "cache"

            def __str__(self):
                return "club"

        class Joining(models.Model):
            kind = models.ForeignKey(ContentType, models.CASCADE, null=True, related_name="+")
            row = models.IntegerField(null=True)
            reason = GenericForeignKey("kind", "row")
            club = models.ForeignKey(Club, models.CASCADE, related_name="+")
            proposer = models.ForeignKey(Person, models.CASCADE, null=True, related_name="+")
            person = models.ForeignKey(Person, models.CASCADE, related_name="+")
            inviter = models.ForeignKey(Person, models.CASCADE, null=True, related_name="+")

            class Meta:
                app_label = "cache"

            def __str__(self):
                return "joining"

        with connection.schema_editor() as editor:
            for each in (Person, Club, Joining):
                editor.create_model(each)
        try:
            club: Any = Club._default_manager.create()
            people: list[Any] = [Person._default_manager.create() for _ in range(3)]
            ann, eve, bob = people
            club.members.add(ann)
            ann.follows.add(eve)
            eve.follows.add(bob)
            before = generations(*(f"person:{each.pk}" for each in people), f"club:{club.pk}")
            cleared, ends = {
                "club": (club.members, {ann, club}),
                "person": (ann.clubs, {ann, club}),
                "follower": (eve.follows, {eve, bob}),
                "followed": (eve.followers, {eve, ann}),
            }[end]
            cleared.clear()
            assert changed(before) == {f"{each}:{each.pk}" for each in ends}
        finally:
            with connection.schema_editor() as editor:
                for each in (Joining, Club, Person):
                    editor.delete_model(each)


def test_two_may_declare_tags_of_one_model_that_change_when_it_is_saved():
    tagged("mail:{email}")(User)
    user = User.objects.create(username="ann", email="a@example.org")
    before = generations("name:ann", "name:eve", "mail:a@example.org", "mail:b@example.org")
    user.username, user.email = "eve", "b@example.org"
    user.save()
    assert changed(before) == set(before)


def test_a_relation_of_other_models_invalidates_nothing():
    group = Group.objects.create(name="g")
    user = User.objects.create(username="ann")
    before = generations("users", f"user:{user.pk}", f"group:{group.pk}")
    group.permissions.add(Permission.objects.earliest("pk"))
    assert changed(before) == {f"group:{group.pk}"}


def test_tags_are_invalidated_when_the_transaction_commits_and_never_when_it_does_not():
    before = generations("users")
    with transaction.atomic():
        User.objects.create(username="ann")
        assert changed(before) == set()
    assert changed(before) == {"users"}
    before = generations("users")
    with transaction.atomic():
        User.objects.create(username="eve")
        transaction.set_rollback(True)
    assert changed(before) == set()


@pytest.mark.django_db(transaction=True, databases=["default", "postgres"])
def test_the_commit_that_counts_is_that_of_the_rows_database():
    before = generations("users")
    with transaction.atomic(using="default"):
        User.objects.using("postgres").create(username="ann")
        # The transaction of `default` is still open, and has nothing to do with it.
        assert changed(before) == {"users"}
    before = generations("users")
    with transaction.atomic(using="postgres"):
        User.objects.using("postgres").create(username="eve")
        assert changed(before) == set()
    assert changed(before) == {"users"}


def names():
    return fetch("names", lambda: sorted(User.objects.values_list("username", flat=True)), tags="users")


def test_what_a_transaction_has_written_is_seen_by_itself_and_by_nobody_else(together):
    User.objects.create(username="ann")
    assert names() == ["ann"]
    with transaction.atomic():
        User.objects.create(username="eve")
        assert names() == ["ann", "eve"]
        assert together(1, lambda _n: names()) == [["ann"]]
    assert names() == ["ann", "eve"]


def test_what_a_transaction_took_back_was_never_stored():
    assert names() == []
    with transaction.atomic():
        User.objects.create(username="eve")
        assert names() == ["eve"]
        # Nor in what encloses it, which names no tag of its own.
        assert fetch("outer", names) == ["eve"]
        transaction.set_rollback(True)
    assert names() == []
    assert fetch("outer", names) == []


def test_what_is_found_to_depend_on_a_change_on_the_way_is_seen_by_nobody_else():
    def compute():
        depend_on("users")
        return User.objects.count()

    with transaction.atomic():
        User.objects.create(username="eve")
        assert fetch("found", compute) == 1
        transaction.set_rollback(True)
    assert fetch("found", compute) == 0
    with transaction.atomic():
        User.objects.create(username="eve")
        # Stored before, by somebody who could not know.
        assert fetch("found", compute) == 1
        assert fetch("around", lambda: fetch("found", compute)) == 1
        transaction.set_rollback(True)
    assert fetch("found", compute) == fetch("around", lambda: fetch("found", compute)) == 0


def test_what_a_computation_writes_itself_is_not_kept_before_it_is_committed():
    def compute():
        User.objects.create(username="eve")
        return User.objects.count()

    with transaction.atomic():
        assert fetch("writing", compute, tags="users") == 1
        transaction.set_rollback(True)
    assert names() == []
    assert fetch("writing", lambda: "anew", tags="users") == "anew"


def test_a_transaction_that_was_taken_back_is_no_concern_of_the_next():
    numbers = count(1)
    with transaction.atomic():
        User.objects.create(username="ann")
        transaction.set_rollback(True)
    with transaction.atomic():
        with transaction.atomic():
            User.objects.create(username="eve")
            transaction.set_rollback(True)
        assert [fetch("next", lambda: next(numbers), tags="users") for _ in range(2)] == [1, 1]


class Hooks(list):
    """What is to be done on commit; counts how much of it is looked at."""

    looked = 0

    def __iter__(self):
        self.looked += len(self)
        return super().__iter__()

    def __getitem__(self, place):
        found = super().__getitem__(place)
        self.looked += len(found)
        return found


def test_a_transaction_of_many_changes_is_looked_through_once():
    with transaction.atomic():
        connection.run_on_commit = hooks = Hooks()
        for number in range(100):
            invalidate_on_commit(f"row:{number}")
            assert not is_uncommitted({f"row:{number + 1}"})
        assert is_uncommitted({"another", "row:50"})
        assert hooks.looked == 100
        with transaction.atomic():
            invalidate_on_commit("within")
            assert is_uncommitted({"within"})
            transaction.set_rollback(True)
        assert not is_uncommitted({"within"})
        assert is_uncommitted({"row:99"})
    assert not is_uncommitted({"row:99"})


@pytest.mark.django_db(transaction=False)
def test_in_a_test_that_never_commits_a_change_counts_until_it_was_told(django_capture_on_commit_callbacks):
    number = count(1)
    with django_capture_on_commit_callbacks(execute=True):
        invalidate_on_commit("all")
        assert [fetch("k", lambda: next(number), tags="all") for _ in range(2)] == [1, 2]
    assert [fetch("k", lambda: next(number), tags="all") for _ in range(2)] == [3, 3]
    with django_capture_on_commit_callbacks():
        invalidate_on_commit("all")
    assert [fetch("k", lambda: next(number), tags="all") for _ in range(2)] == [4, 5]


def test_bulk_changes_say_it_themselves():
    numbers = count(1)
    assert fetch("k", lambda: next(numbers), tags="bulk") == 1
    with transaction.atomic():
        invalidate_on_commit("bulk")
    assert fetch("k", lambda: next(numbers), tags="bulk") == 2


@override_settings(CACHES={"default": {"BACKEND": "tests.cache.test_rows.Down"}})
def test_a_cache_that_is_down_fails_no_commit(caplog):
    with transaction.atomic():
        User.objects.create(username="ann")
    assert User.objects.filter(username="ann").exists()
    assert "Error calling" in caplog.text


class Down:
    """A cache whose server is not there."""

    def __init__(self, *_args):
        pass

    def set_many(self, *_args):
        raise ConnectionError

    def close(self):
        pass
