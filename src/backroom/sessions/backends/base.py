"""What both engines are: Django's `SessionBase` over a `Store`, every method sync and async, each written once.

A method is a generator of steps (see `steps`): `load` runs it where it is, `aload` awaits it.
"""

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from django.contrib.auth import SESSION_KEY as USER_ID
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.utils import timezone

from backroom.clock import SECOND, Moment, SystemClock, after, from_datetime, to_datetime
from backroom.sessions import endings, lifecycle, signals
from backroom.sessions.codec import Codec, codec_for, writable
from backroom.sessions.documents import Changes, Document, changes_of, contents_of
from backroom.sessions.guessing import guesses
from backroom.sessions.info import SessionInfo
from backroom.sessions.keys import KeyHash, hash_of, is_well_formed, mark_of, new_id
from backroom.sessions.predecessors import Predecessor, predecessor_of
from backroom.sessions.records import Header, Loaded, Store, Visitor, Written
from backroom.sessions.rules import TOUCHES_PER_LIFE, Rules, rules
from backroom.sessions.steps import Call, Send, Steps, arun, run
from backroom.sessions.transactions import Deed, Witness

EXPIRY: Final = "_session_expiry"
"""The name under which Django's sessions keep what `set_expiry` was given."""
MOMENTS: Final = (str, datetime)
"""As what that names a moment, and not a number of seconds."""
BATCH: Final = 500
INTERRUPTED: Final = "The request's session was ended before the request completed, perhaps by signing out elsewhere."


class BackroomSession(SessionBase):
    """A session whose saves merge key by key. `SessionStore` of each engine says where it is kept."""

    visitor = Visitor()
    """Who asks. The middleware sets it before anything is loaded."""

    def __init__(self, session_key: str | None = None) -> None:
        self._was_accessed = False
        super().__init__(session_key)
        self._header: Header | None = None
        self._deeds: list[Deed] = []
        self._has_unwritten_id = False
        self._ended_as = "flushed"
        self.is_fresh = False
        """Whether the id was made in this request."""
        self.came_with_replaced_id = False
        """Whether the cookie has an id that another request has just replaced: then it must not be set again."""

    if TYPE_CHECKING:

        def _get_session(self, no_load: bool = ...) -> dict[str, Any]: ...  # noqa: FBT001

        async def _aget_session(self, no_load: bool = ...) -> dict[str, Any]: ...  # noqa: FBT001

    # ── What it knows ───────────────────────────────────────────────────────────────────────────────

    @classmethod
    def get_store(cls) -> Store:
        """Return where sessions of this class are kept."""
        raise NotImplementedError

    @property
    def accessed(self) -> bool:
        """Whether anything looked into the session."""
        return self._was_accessed

    @accessed.setter
    def accessed(self, value: bool) -> None:
        self._was_accessed = value
        if value:
            self.on_access()

    def on_access(self) -> None:
        """Do what is to be done as soon as the response depends on the session. The middleware has something."""

    @property
    def user_id(self) -> str | None:
        """The primary key of the user who is signed in, as text; None for a visitor."""
        found = self.get(USER_ID)
        return None if found is None else str(found)

    @property
    def info(self) -> SessionInfo | None:
        """What the store knows of this session; None for one that is not stored. Loads it."""
        self._get_session()
        return SessionInfo.of(self._header) if self._header is not None else None

    @property
    def key_hash(self) -> KeyHash | None:
        """The hash by which the store finds this session, if it is known to be there. Loads nothing."""
        return self._header.key if self._header is not None else None

    @property
    def wants_new_id(self) -> bool:
        """Whether the id is older than RENEWAL allows, or is to be replaced at once. Loads nothing."""
        if self._header is None or self.is_fresh or self.came_with_replaced_id:
            return False
        return rules().wants_new_id(self._header.renewed_at, self.now())

    @staticmethod
    def now() -> Moment:
        """Return the present moment."""
        return SystemClock().now()

    # ── SessionBase, sync and async ─────────────────────────────────────────────────────────────────

    def load(self) -> dict[str, Any]:
        """Return the contents of the session; of one that is unknown or over, nothing, and forget its id."""
        return run(self._loading())

    async def aload(self) -> dict[str, Any]:
        """See load()."""
        return await arun(self._loading())

    def exists(self, session_key: str | None) -> bool:
        """Tell whether there is a session with this id."""
        return run(self._existing(session_key))

    async def aexists(self, session_key: str | None) -> bool:
        """See exists()."""
        return await arun(self._existing(session_key))

    def create(self) -> None:
        """Store the session under a new id."""
        run(self._creating(self._get_session(no_load=True)))

    async def acreate(self) -> None:
        """See create()."""
        await arun(self._creating(await self._aget_session(no_load=True)))

    def save(self, must_create: bool = False) -> None:  # noqa: FBT001, FBT002 - SessionBase's signature
        """Write what this request changed, and nothing if it changed nothing.

        Raise `UpdateError` if the session was ended meanwhile, `SessionTooLarge` if there is too much in it, and with
        `must_create` `CreateError` if it exists.
        """
        self.take_back()
        if self.session_key is None:
            self.create()
        else:
            run(self._saving(self._get_session(no_load=must_create), must_create=must_create))

    async def asave(self, must_create: bool = False) -> None:  # noqa: FBT001, FBT002 - as save()
        """See save()."""
        await arun(self._taking_back())
        if self.session_key is None:
            await self.acreate()
        else:
            data = await self._aget_session(no_load=must_create)
            await arun(self._saving(data, must_create=must_create))

    def delete(self, session_key: str | None = None) -> None:
        """End the session with this id, or this one."""
        run(self._deleting(session_key))

    async def adelete(self, session_key: str | None = None) -> None:
        """See delete()."""
        await arun(self._deleting(session_key))

    def clear(self) -> None:
        """Empty the session, whatever other requests put in meanwhile; its id stays."""
        self._session_cache = Document()
        self._session_cache.is_whole = True
        self.accessed = True
        self.modified = True

    def flush(self) -> None:
        """End the session and forget its id."""
        super().flush()
        self._forget()

    async def aflush(self) -> None:
        """See flush()."""
        await super().aflush()
        self._forget()

    def cycle_key(self) -> None:
        """Give the session a new id and keep its contents; the old id is void at once."""
        run(self._cycling(self._get_session()))

    async def acycle_key(self) -> None:
        """See cycle_key()."""
        await arun(self._cycling(await self._aget_session()))

    def renew(self) -> bool:
        """Give the session a new id; the old one works for GRACE seconds more. Tell whether this request did it."""
        return run(self._renewing(self._get_session()))

    async def arenew(self) -> bool:
        """See renew()."""
        return await arun(self._renewing(await self._aget_session()))

    def take_back(self) -> None:
        """Take for not done what a transaction did that was rolled back since, so that the next save does it again.

        A session that such a transaction ended is ended anew, at once. `save()` begins with this.
        """
        if self._deeds:
            run(self._taking_back())

    @classmethod
    def clear_expired(cls) -> None:
        """Delete all sessions whose time is over, batch by batch."""
        while run(endings.clearing(cls, BATCH)) == BATCH:
            pass

    @classmethod
    async def aclear_expired(cls) -> None:
        """See clear_expired()."""
        while await arun(endings.clearing(cls, BATCH)) == BATCH:
            pass

    # ── Each of them once ───────────────────────────────────────────────────────────────────────────

    def _loading(self) -> Steps[Document]:
        found, session_id, now, law = None, self.session_key, self.now(), rules()
        if is_well_formed(session_id):
            assert session_id is not None  # noqa: S101 - is_well_formed() has seen to it
            found = yield from self._find(session_id, now, law)
        if found is None:
            self._session_key = None
            self._header = None
            if session_id is not None:
                yield from self._unknown(now, law)
            return Document()
        self._header = found.header
        document = self._codec(law).document(found.contents)
        if self._is_due(found.header, now, law):
            yield from self._touching(document, now, law)
        return document

    def _find(self, session_id: str, now: Moment, law: Rules) -> Steps[Loaded | None]:
        key = hash_of(session_id)
        found = yield from self.get_store().load(key, now)
        if found is None and law.renewal is not None:
            found = yield from self.get_store().load_replaced(key, now)
            self.came_with_replaced_id = found is not None
        if found is None and law.options.READ_THROUGH:
            found = yield from self._adopting(session_id, key, now, law)
        if found and law.is_over(created_at=found.header.created_at, seen_at=found.header.seen_at, now=now):
            return None
        return found

    def _adopting(self, session_id: str, key: KeyHash, now: Moment, law: Rules) -> Steps[Loaded | None]:
        """Move a session of the engine before this one here, and return it."""
        before, store = predecessor_of(law.options.READ_THROUGH), self.get_store()
        contents = yield from before.load(session_id)
        if contents is None:
            # Another request may have moved it between the two looks.
            return (yield from store.load(key, now))
        codec = self._codec(law)
        # What was stored before there was a limit is not refused; it is when it grows.
        changes = contents_of(writable(contents, codec), codec, max_bytes=sys.maxsize)
        header = self._new_header(key, contents, now, law)
        extra = yield from self.extra_columns(contents)
        written = yield from store.insert(header, changes, extra)
        if not written:
            return (yield from store.load(key, now))
        # Somebody may have ended it before it was here to be ended; and those of its user may all have been.
        is_there = yield from before.exists(session_id)
        if is_there and isinstance(written, Witness):
            self._deeds.append(Deed(written, "moved", session_id))
            written.afterwards(lambda: run(self._taking_from(before, session_id, header)))
        elif is_there:
            yield from before.delete(session_id)
        if not is_there or (yield from self._is_refused(header)):
            yield from store.delete([key])
            return None
        yield from lifecycle.told(type(self), "created", header)
        yield from endings.ending_the_oldest(type(self), header.user_id)
        return Loaded(header, changes.stored)

    def _unknown(self, now: Moment, law: Rules) -> Steps[None]:
        address = self.visitor.address
        if guesses.note(address, now, threshold=law.options.UNKNOWN_IDS):
            lifecycle.logger.warning("action=unknown_ids address=%s count=%s", address or "-", law.options.UNKNOWN_IDS)
            yield Send(signals.unknown_ids, type(self), {"address": address, "count": law.options.UNKNOWN_IDS})

    def _taking_from(self, before: Predecessor, session_id: str, header: Header) -> Steps[None]:
        """Delete a session where it was, after the transaction in which it moved here."""
        yield from before.delete(session_id)
        if (yield from self._is_refused(header)):
            # Whoever ended all of the user's meanwhile did not see this one yet.
            yield from self.get_store().delete([(self._header or header).key])

    def _is_refused(self, header: Header) -> Steps[bool]:
        """Tell whether all sessions that a user had in the earlier engine were ended."""
        return header.user_id is not None and (yield from self.get_store().exists(mark_of(header.user_id)))

    def _touching(self, data: Mapping[str, Any], now: Moment, law: Rules) -> Steps[None]:
        """Write down that the session was seen; where use keeps it alive, that moves its end."""
        header = self._header
        assert header is not None  # noqa: S101 - its caller has seen to it
        columns = self._seen(now, law)
        if law.idle is not None or law.saves_every_request:
            columns["ends_at"] = self._end(data, header.created_at, now, law)
        if (yield from self.get_store().write(header.key, Changes(), columns)):
            yield from self._noted(header._replace(**columns))

    def _existing(self, session_key: str | None) -> Steps[bool]:
        if session_key is None or not is_well_formed(session_key):
            return False
        return (yield from self.get_store().exists(hash_of(session_key)))

    def _creating(self, data: Mapping[str, Any]) -> Steps[None]:
        self._has_unwritten_id = False
        while True:
            self._session_key = new_id()
            if (yield from self._inserting(data)):
                self.modified = True
                return

    def _saving(self, data: Mapping[str, Any], *, must_create: bool) -> Steps[None]:
        if must_create:
            if not (yield from self._inserting(data)):
                raise CreateError
            return
        if self._header is None:
            yield from self._recognising()
        if self._header is None or self.session_key is None:
            raise UpdateError
        columns = self._new_id_columns(hash_of(self.session_key)) if self._has_unwritten_id else {}
        yield from self._updating(data, columns, insists=self._has_unwritten_id)
        self._has_unwritten_id = False

    def _recognising(self) -> Steps[None]:
        """Find out when a session began and when it ends that was filled without being loaded."""
        if self._header is None and is_well_formed(self.session_key):
            assert self.session_key is not None  # noqa: S101 - is_well_formed() has seen to it
            found = yield from self._find(self.session_key, self.now(), rules())
            self._header = found.header if found else None

    def _updating(
        self, data: Mapping[str, Any], new_id_columns: dict[str, Any], *, insists: bool = False
    ) -> Steps[bool]:
        """Write what changed in one statement; raise `UpdateError` if the session is no longer there.

        Tell whether it still had the id that this request knows. A new id that the request insists on it gets in any case.
        """
        header, now, law = self._header, self.now(), rules()
        assert header is not None  # noqa: S101 - its callers have seen to it
        changes = changes_of(data, self._codec(law), max_bytes=law.options.MAX_BYTES)
        columns = self._seen(now, law) if self._is_due(header, now, law) else {}
        began = header.created_at
        if changes.names(USER_ID):
            columns["user_id"] = user_id = _user_id(data)
            if user_id is not None and user_id != header.user_id:
                # A user's session begins when the user signs in, whatever the visitor's had been before.
                began = columns["created_at"] = now
        end = self._end(data, began, now, law)
        # The end is in an index, which is not worth writing for a few seconds.
        if changes.names(EXPIRY) or abs(end - header.ends_at) >= min(
            max(law.touch, 1) * SECOND, (end - now) // TOUCHES_PER_LIFE
        ):
            columns["ends_at"] = end
        if not changes and not columns and not new_id_columns:
            return True
        extra = yield from self.extra_columns(data)
        if not (yield from self._writing(changes, {**columns, **new_id_columns}, extra, insists=insists)):
            raise UpdateError
        self._settle(data, changes)
        if columns:
            yield from self._noted((self._header or header)._replace(**columns))
        return not self.came_with_replaced_id

    def _writing(
        self, changes: Changes, columns: dict[str, Any], extra: Mapping[str, Any], *, insists: bool
    ) -> Steps[Written]:
        store, header = self.get_store(), self._header
        assert header is not None  # noqa: S101 - its caller has seen to it
        # What took something away is not to come back with a crash of the server.
        waits = bool(changes.deleted or changes.replaces) or columns.get("ends_at", header.ends_at) < header.ends_at
        while not (written := (yield from store.write(header.key, changes, {**columns, **extra}, waits=waits))):
            if rules().renewal is None or (found := (yield from store.load_replaced(header.key, self.now()))) is None:
                return False
            # Another request gave it a new id meanwhile: it is the same session.
            header = self._header = found.header
            self.came_with_replaced_id = True
            if insists:
                # Whoever renewed it may be somebody else, who is to know no id of a session that is signed in.
                continue
            # One new id is enough.
            columns = {name: value for name, value in columns.items() if name not in NEW_ID_COLUMNS}
            if not changes and not columns and not extra:
                return True
        if isinstance(written, Witness):
            what: Any = "saved" if "new_key" not in columns else "cycled" if insists else "renewed"
            self._deeds.append(Deed(written, what, self.session_key, header, changes))
        if "new_key" in columns:
            self._header = header._replace(key=columns["new_key"], renewed_at=columns["renewed_at"])
        return True

    def _inserting(self, data: Mapping[str, Any]) -> Steps[bool]:
        """Store a session that is not there yet; tell whether that was so."""
        assert self.session_key is not None  # noqa: S101 - its callers have seen to it
        now, law = self.now(), rules()
        header = self._new_header(hash_of(self.session_key), data, now, law)
        changes = contents_of(data, self._codec(law), max_bytes=law.options.MAX_BYTES)
        extra = yield from self.extra_columns(data)
        written = yield from self.get_store().insert(header, changes, extra)
        if not written:
            return False
        if isinstance(written, Witness):
            self._deeds.append(Deed(written, "made", self.session_key))
        self._header, self.is_fresh = header, True
        self._settle(data, changes)
        yield from lifecycle.told(type(self), "created", header)
        yield from endings.ending_the_oldest(type(self), header.user_id)
        return True

    def _deleting(self, session_key: str | None) -> Steps[None]:
        yield from self._taking_back()
        if session_key is None:
            session_key = self.session_key
        if session_key is None:
            return
        if session_key != self.session_key:
            yield from self._ending_it(session_key, None)
            return
        header, self._header = self._header, None
        yield from self._ending_it(session_key, header)
        if (witness := (yield from self.get_store().witness())) is not None:
            self._deeds.append(Deed(witness, "ended", session_key, header))

    def _ending_it(self, session_key: str, header: Header | None) -> Steps[None]:
        # There first: a request that moves it here asks once more whether it is still there.
        if rules().options.READ_THROUGH:
            yield from predecessor_of(rules().options.READ_THROUGH).delete(session_key)
        keys = {hash_of(session_key)} | ({header.key} if header else set())
        yield from endings.ending(type(self), sorted(keys), reason=self._ended_as)

    def _taking_back(self) -> Steps[None]:
        """Go back, the last one first, over what was done in transactions that were rolled back since."""
        deeds, self._deeds = self._deeds, []
        lost = []
        for deed in deeds:
            if (yield Call(deed.witness.saw_rollback)):
                lost.append(deed)
            elif not deed.witness.saw_commit:
                self._deeds.append(deed)
        for deed in reversed(lost):
            if deed.what == "ended":
                yield from self._ending_it(str(deed.session_key), deed.header)
            elif deed.session_key is not None and self.session_key is not None:
                self._undo(deed)

    def _undo(self, deed: Deed) -> None:
        """Know of the session what was known before."""
        self._header = deed.header
        self.modified = self.modified or deed.what != "moved"
        if isinstance(data := getattr(self, "_session_cache", None), Document):
            data.unsettle(deed.changes)
        match deed.what:
            case "made":
                self._session_key, self.is_fresh, self._has_unwritten_id = None, False, False
            case "cycled":
                # Under the old id somebody else may know it.
                self._has_unwritten_id = True
            case "renewed":
                self._session_key = deed.session_key
            case _:
                pass

    def _cycling(self, data: Mapping[str, Any]) -> Steps[None]:
        yield from self._taking_back()
        yield from self._recognising()
        if self.session_key is None or self._header is None:
            yield from self._creating(data)
            return
        session_id = new_id()
        try:
            yield from self._updating(data, self._new_id_columns(hash_of(session_id)), insists=True)
        except UpdateError:
            # Going on under a new id would bring back what somebody has ended.
            raise SessionInterrupted(INTERRUPTED) from None
        self._session_key, self.is_fresh, self.came_with_replaced_id = session_id, True, False
        self.modified, self._has_unwritten_id = True, False
        yield from lifecycle.told(type(self), "renewed", self._header, reason="cycled")

    def _renewing(self, data: Mapping[str, Any]) -> Steps[bool]:
        yield from self._taking_back()
        header, law = self._header, rules()
        if header is None or self.came_with_replaced_id or self._has_unwritten_id:
            return False
        session_id = new_id()
        columns = self._new_id_columns(hash_of(session_id))
        # After a change of what the user may do, the old id must not do it too.
        if header.renewed_at and law.grace:
            columns |= {"previous_key": header.key, "previous_until": after(self.now(), law.grace)}
        try:
            if not (yield from self._updating(data, columns)):
                return False
        except UpdateError:
            # It was ended meanwhile. Whether that matters to this request a save will tell.
            return False
        self._session_key, self.modified = session_id, True
        yield from lifecycle.told(type(self), "renewed", self._header or header, reason="renewed")
        return True

    def _noted(self, header: Header) -> Steps[None]:
        """Remember what was written, and tell what it means."""
        was, self._header = self._header, header
        if was is None:
            return
        if header.user_id != was.user_id:
            yield from endings.ending_the_oldest(type(self), header.user_id)
        before, now = Visitor(was.address, was.user_agent), Visitor(header.address, header.user_agent)
        if before != now and all(before):
            yield from lifecycle.told(type(self), "visitor_changed", header, was=before, now=now)

    # ── Small things ────────────────────────────────────────────────────────────────────────────────

    def extra_columns(self, data: Mapping[str, Any]) -> Steps[dict[str, Any]]:  # noqa: ARG002 - for those who have some
        """Return what a subclass stores beside the contents. Only the database engine can have that."""
        yield from ()
        return {}

    def _codec(self, law: Rules) -> Codec:
        return codec_for(self.serializer, encrypts=law.options.ENCRYPT)

    def _seen(self, now: Moment, law: Rules) -> dict[str, Any]:
        seen: dict[str, Any] = {"seen_at": now}
        address, user_agent = self.visitor
        if address and law.options.KEEP_ADDRESSES:
            seen["address"] = address
        if user_agent:
            seen["user_agent"] = user_agent
        return seen

    def _end(self, data: Mapping[str, Any], created_at: Moment, now: Moment, law: Rules) -> Moment:
        """Return until when the session lives if it is used now."""
        expiry = data.get(EXPIRY)
        if not isinstance(expiry, MOMENTS) and type(self).get_expiry_date is SessionBase.get_expiry_date:
            # As get_expiry_date() has it, without a datetime.
            return law.end(after(now, expiry or self.get_session_cookie_age()), created_at=created_at, now=now)
        asked: datetime = self.get_expiry_date(modification=to_datetime(now), expiry=expiry)
        aware = timezone.make_aware(asked) if timezone.is_naive(asked) else asked
        return law.end(from_datetime(aware), created_at=created_at, now=now)

    def _is_due(self, header: Header, now: Moment, law: Rules) -> bool:
        """Tell whether it is time to write down that the session was seen, which may be what keeps it alive."""
        if law.is_due(header.seen_at, now):
            return True
        part = (header.ends_at - header.seen_at) // TOUCHES_PER_LIFE
        return law.saves_every_request and now - header.seen_at >= max(part, SECOND)

    def _new_header(self, key: KeyHash, data: Mapping[str, Any], now: Moment, law: Rules) -> Header:
        seen = self._seen(now, law)
        return Header(
            key=key,
            user_id=_user_id(data),
            created_at=now,
            seen_at=now,
            renewed_at=now,
            ends_at=self._end(data, now, now, law),
            address=seen.get("address", ""),
            user_agent=seen.get("user_agent", ""),
            label="",
        )

    def _new_id_columns(self, key: KeyHash) -> dict[str, Any]:
        return {"new_key": key, "renewed_at": self.now(), "previous_key": None, "previous_until": None}

    def _settle(self, data: Mapping[str, Any], changes: Changes) -> None:
        if not isinstance(data, Document):
            data = self._session_cache = Document(data)
        data.settle(changes)

    def _forget(self) -> None:
        self._header, self.is_fresh, self.came_with_replaced_id, self._has_unwritten_id = None, False, False, False
        # What else was done to it matters no more.
        self._deeds = [deed for deed in self._deeds if deed.what == "ended"]


NEW_ID_COLUMNS: Final = frozenset({"new_key", "renewed_at", "previous_key", "previous_until"})


def _user_id(data: Mapping[str, Any]) -> str | None:
    found = data.get(USER_ID)
    return None if found is None else str(found)
