"""What happens to sessions. A receiver changes nothing: what it raises is logged, and the session goes its way.

`sender` is the SessionStore class of the engine; `session` a `SessionInfo`, which has no id that opens anything.
"""

from django.dispatch import Signal

session_created = Signal()
"""A session was stored for the first time. Arguments: `session`."""

session_renewed = Signal()
"""A session got a new id and kept its contents. Arguments: `session`, `reason` ("cycled", "renewed")."""

session_revoked = Signal()
"""A session was ended. Arguments: `session`, `reason`, a word: "flushed", "revoked", "limit", "deactivated", …"""

session_expired = Signal()
"""A session whose time was over was removed, some time after. Arguments: `session`."""

visitor_changed = Signal()
"""A session is used by another browser than before, or from another address. Arguments: `session`, `was` (a Visitor)
and `now` (a Visitor). Said at most once in each TOUCH seconds; whether it matters is the project's to judge."""

new_device = Signal()
"""A user signed in with a browser on which they never did before. Arguments: `request`, `user`, `session`."""

unknown_ids = Signal()
"""Somebody tries ids that do not exist. Arguments: `address`, `count`; once a minute and address, from the threshold."""
