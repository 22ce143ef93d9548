"""Models whose rows have tags: a change of a row invalidates them when the transaction of its database commits."""

import string
from collections.abc import Callable, Iterable
from typing import Any, Final

from django.db.models import Model
from django.db.models.signals import class_prepared, m2m_changed, post_delete, post_save, pre_save

from backroom.cache.writes import invalidate_on_commit

type RowTag = str | Callable[[Any], str | Iterable[str]]

BEFORE: Final = "_backroom_cache_tags_before"


def tagged[M: type[Model]](*tags: RowTag, alias: str | None = None) -> Callable[[M], M]:
    """Declare the tags of a model's rows, as a class decorator or `tagged(…)(Model)` for a model of another app.

    A tag is a text, in which `{pk}` or `{category_id}` stands for a field of the row, or a function of the row that
    returns one tag or several. Rows of its proxies, and of models that inherit from it, have them too. A row that
    changes from one tag to another invalidates both. Saving, deleting and changing a many-to-many field count, in
    either direction; `QuerySet.update()` and `bulk_create()` send no signals: say `invalidate_on_commit()` beside them.
    """

    def decorate(model: M) -> M:
        _Watch(model, tags, alias)
        return model

    return decorate


class _Watch:
    """Hears what happens to the rows of one model."""

    def __init__(self, model: type[Model], tags: tuple[RowTag, ...], alias: str | None) -> None:
        self.model = model
        self.tags = tags
        self.alias = alias
        self.can_change = any(_can_change(tag) for tag in tags)
        # Two may watch the same row.
        self.mark = f"{BEFORE}_{id(self)}"
        self.hear(model)
        # `weak=False`: the signals are all that keeps this object.
        class_prepared.connect(self.prepared, weak=False)
        m2m_changed.connect(self.related, weak=False)

    def hear(self, model: type[Model]) -> None:
        """Hear of the rows of a model, and of those that are saved as something that inherits from it."""
        pre_save.connect(self.before_saving, sender=model, weak=False)
        post_save.connect(self.saved, sender=model, weak=False)
        post_delete.connect(self.deleted, sender=model, weak=False)
        for each in model.__subclasses__():
            self.hear(each)

    def prepared(self, sender: type[Model], **_kwargs: Any) -> None:
        """Hear of a model that inherits from this one and is declared later."""
        if issubclass(sender, self.model):
            self.hear(sender)

    def before_saving(self, instance: Any, using: str, *, raw: bool = False, **_kwargs: Any) -> None:
        """Remember the tags that the row had, if saving can change them."""
        if not self.can_change or instance._state.adding or raw:
            return
        # An abstract model has no table; another has the row also where its heir's is yet to be made.
        model = type(instance) if self.model._meta.abstract else self.model
        before = _rows(model, using).filter(pk=instance.pk).first()
        setattr(instance, self.mark, [] if before is None else self.tags_of(before))

    def saved(self, instance: Any, using: str, **_kwargs: Any) -> None:
        """Invalidate the tags that the row had and those that it has."""
        before = instance.__dict__.pop(self.mark, [])
        self.changed([*before, *self.tags_of(instance)], using)

    def deleted(self, instance: Any, using: str, **_kwargs: Any) -> None:
        """Invalidate the tags of a row that is no more."""
        self.changed(self.tags_of(instance), using)

    def related(self, sender: Any, instance: Any, action: str, using: str, **kwargs: Any) -> None:
        """Invalidate the tags of both ends of a many-to-many relation that changed."""
        if action not in {"post_add", "post_remove", "pre_clear", "post_clear"} or not _joins(sender, self.model):
            return
        rows = [instance] if isinstance(instance, self.model) else []
        if issubclass(other := kwargs["model"], self.model):
            keys = kwargs["pk_set"]
            if keys is None:
                rows += _others(sender, instance, other, using, is_reverse=kwargs["reverse"])
            else:
                rows += _rows(other, using).filter(pk__in=keys)
        self.changed([tag for row in rows for tag in self.tags_of(row)], using)

    def tags_of(self, row: Any) -> list[str]:
        """Return the tags of one row."""
        found: list[str] = []
        for tag in self.tags:
            answer = tag.format_map(_Fields(row)) if isinstance(tag, str) else tag(row)
            found += [answer] if isinstance(answer, str) else answer
        return found

    def changed(self, tags: list[str], using: str) -> None:
        """Invalidate tags when the database commits."""
        if tags:
            invalidate_on_commit(*dict.fromkeys(tags), using=using, alias=self.alias)


class _Fields(dict[str, Any]):
    """A row's attributes by name, for `str.format_map`."""

    def __init__(self, row: Any) -> None:
        super().__init__()
        self.row = row

    def __missing__(self, name: str) -> Any:
        return getattr(self.row, name)


def _rows(model: Any, using: str) -> Any:
    """Return all rows of a model, also those that its own manager hides."""
    return model._base_manager.using(using)  # noqa: SLF001 - documented, for all its underscore


def _can_change(tag: RowTag) -> bool:
    """Tell whether a row can get another tag by being saved."""
    if not isinstance(tag, str):
        return True
    fields = {name for _, name, _, _ in string.Formatter().parse(tag) if name is not None}
    return not fields <= {"pk", "id"}


def _joins(through: Any, model: type[Model]) -> bool:
    ends = [field.related_model for field in _ends(through)]
    return any(issubclass(end, model) or issubclass(model, end) for end in ends)


def _ends(through: Any) -> list[Any]:
    """Return the foreign keys of a model that joins others; not those to it, nor generic ones, which name no model."""
    return [field for field in through._meta.fields if field.is_relation]


def _others(through: Any, instance: Any, model: type[Model], using: str, *, is_reverse: bool) -> list[Any]:
    """Return the rows of the model that were joined to an instance, before a clear() parts them."""
    owner: Any = model if is_reverse else type(instance)
    joined: list[Any] = []
    for field in owner._meta.many_to_many:
        if field.remote_field.through is through:
            mine, theirs = field.m2m_field_name(), field.m2m_reverse_field_name()
            if is_reverse:
                mine, theirs = theirs, mine
            joined += _rows(through, using).filter(**{mine: instance}).values_list(theirs, flat=True)
    return list(_rows(model, using).filter(pk__in=joined))
