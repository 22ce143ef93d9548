"""What people may know of a session: when, where, with what. Nothing in it opens the session."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from backroom.clock import to_datetime
from backroom.sessions.agents import Agent, agent_of
from backroom.sessions.keys import KeyHash, handle_of
from backroom.sessions.records import Header


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """A session of somebody's."""

    key: KeyHash = field(repr=False)
    """Its hash, by which the store finds it."""
    handle: str
    """Its name in logs and forms."""
    user_id: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    ip_address: str
    user_agent: str
    """As the browser sent it."""
    label: str
    """The name that its owner gave it."""

    @classmethod
    def of(cls, header: Header) -> Self:
        """Return what is known of a stored session."""
        return cls(
            key=header.key,
            handle=handle_of(header.key),
            user_id=header.user_id,
            created_at=to_datetime(header.created_at),
            last_seen_at=to_datetime(header.seen_at),
            expires_at=to_datetime(header.ends_at),
            ip_address=header.address,
            user_agent=header.user_agent,
            label=header.label,
        )

    @property
    def agent(self) -> Agent:
        """The browser and the device, as far as the user agent tells."""
        return agent_of(self.user_agent)

    @property
    def name(self) -> str:
        """The label, or else what the user agent tells: "Firefox on Android"."""
        return self.label or str(self.agent)
