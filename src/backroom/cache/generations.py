"""Tags: each has a generation, a random word that a value remembers from before it was computed.

Invalidating a tag writes a new word, however many values depend on it. A word that was lost (evicted, flushed) is never
written again, so what was stored with it stays invalid.
"""

import secrets
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final

from django.conf import settings

from backroom.cache.entries import Generations
from backroom.cache.steps import Steps, arun, ask, latest, run
from backroom.errors import BackroomError

TRIES: Final = 3


class InvalidationFailed(BackroomError):
    """A cache kept the old generation of a tag, so that old values would go on to be served."""


def tag_key(tag: str) -> str:
    """Return the key of a tag's generation: any text will do for a tag, not so for a key."""
    try:
        text = tag.encode()
    except AttributeError:
        raise _no_tag(tag) from None
    return f"backroom.tag.{blake2b(text, digest_size=16).hexdigest()}"


def check_tags(tags: Iterable[object]) -> None:
    """Raise `TypeError` for what is no tag."""
    for tag in tags:
        if not isinstance(tag, str):
            raise _no_tag(tag)


def invalidate(*tags: str, alias: str | None = None) -> None:
    """Have nothing served any more that was computed before now and depends on one of these tags.

    The cost does not depend on how many values there are. `alias` names one cache: what it raises is raised, and
    `InvalidationFailed` when it did not take the change. Without an alias all of CACHES are told, whichever of them
    fail; then `InvalidationFailed` names those.
    """
    run(invalidated(tags, alias))


async def ainvalidate(*tags: str, alias: str | None = None) -> None:
    """See invalidate()."""
    await arun(invalidated(tags, alias))


def invalidated(tags: Iterable[str], alias: str | None) -> Steps[None]:
    """See invalidate()."""
    keys = list(dict.fromkeys(map(tag_key, tags)))
    if not keys:
        return
    if alias is not None:
        yield from _renewed(alias, keys)
        return
    failures: dict[str, Exception] = {}
    for each in settings.CACHES:
        try:
            yield from _renewed(each, keys)
        except Exception as error:  # noqa: BLE001 - the other caches are to be told all the same; it is raised below
            failures[each] = error
    if failures:
        names = ", ".join(f"CACHES[{each!r}] ({type(error).__qualname__})" for each, error in failures.items())
        raise InvalidationFailed(
            f"An invalidation was taken by all caches but {names}. Say it again when these are back, or name the cache "
            "that matters: alias=…"
        ) from next(iter(failures.values()))


def current(alias: str, tags: Iterable[str]) -> Steps[dict[str, str]]:
    """Return the generation of each tag, and make one where there is none."""
    keys = {tag: tag_key(tag) for tag in tags}
    if not keys:
        return {}
    found = yield from latest(alias, list(keys.values()))
    missing = [key for key in keys.values() if not isinstance(found.get(key), str)]
    drafts = {key: _new() for key in missing}
    for key, draft in drafts.items():
        # Of two that find none the first one's counts, for both.
        if not (yield from ask(alias, "add", key, draft, None)):
            found |= yield from latest(alias, [key])
    return {tag: str(found.get(key) or drafts.get(key) or _new()) for tag, key in keys.items()}


def held(
    alias: str, found: dict[str, Any], generations: Generations, known: Iterable[str], *, has_lock: bool
) -> Steps[bool]:
    """Tell whether every tag still has the generation that a value remembers.

    `found` holds what was read together with the value: the generations of the tags `known` on this alias. Who has the
    lock reads the others as they are now, as it did the value.
    """
    read = set(known)
    for of, tags in generations.items():
        keys = {tag: tag_key(tag) for tag in tags}
        unread = [key for tag, key in keys.items() if of != alias or tag not in read]
        answers = found if of == alias else {}
        if unread:
            answers = answers | (yield from (latest(of, unread) if has_lock else ask(of, "get_many", unread)))
        if any(answers.get(keys[tag]) != generation for tag, generation in tags.items()):
            return False
    return True


def _renewed(alias: str, keys: list[str]) -> Steps[None]:
    left: dict[str, Any] = {}
    for _ in range(TRIES):
        new = {key: _new() for key in keys}
        failed = set((yield from ask(alias, "set_many", new, None)) or ())
        # Django's database cache says nothing of a write that failed; a server that is not there, nothing of what it has.
        found = yield from latest(alias, keys)
        before = left
        left = {}
        for key in keys:
            word = found.get(key, None if key in failed else new[key])
            # Another's invalidation came after this one, or ours was not taken: the next round tells them apart. A word
            # that was not there in the last one was written since, and did what ours was to do. That cannot be known
            # of a cache that loses writes in silence and also reads from a replica that lags behind: there it may be
            # a word from before, which only came late.
            if word != new[key] and not _is_another(word, before.get(key)):
                left[key] = word
        if not left:
            return
        keys = list(left)
    raise InvalidationFailed(
        f"CACHES[{alias!r}] did not take the new generation of {len(left)} tag(s). What depends on them may be out of "
        "date. See whether the cache can be written to, and whether reads go to a replica that lags behind."
    )


def _is_another(word: Any, before: Any) -> bool:
    # What could not be read says nothing of what was there.
    return isinstance(word, str) and isinstance(before, str) and word != before


def _no_tag(found: object) -> TypeError:
    return TypeError(f"Tags are strings, such as 'product:7', and not {found!r}.")


def _new() -> str:
    return secrets.token_hex(8)
