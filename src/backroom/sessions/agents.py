"""What a User-Agent header tells, as people say it: Firefox on Android. The package `ua-parser` knows how to read one.

The header is whatever the client likes to send. It tells people which of their devices a session is, and nothing more.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Final

from django.utils.translation import gettext as _

PARSED_LENGTH: Final = 400
MOBILE: Final = frozenset({"Android", "iOS", "iPadOS", "Windows Phone", "KaiOS", "Sailfish"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """What a session is used with. Empty is what is not known."""

    browser: str = ""
    system: str = ""
    device: str = ""

    @property
    def is_mobile(self) -> bool:
        """Tell whether it is a phone or a tablet."""
        return self.system in MOBILE

    def __str__(self) -> str:
        match self.browser, self.system:
            case "", "":
                return _("Unknown device")
            case browser, "":
                return browser
            case "", system:
                return system
            case browser, system:
                return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}


def can_parse() -> bool:
    """Tell whether the package that knows user agents is installed."""
    return find_spec("ua_parser") is not None


@lru_cache(maxsize=1024)
def agent_of(user_agent: str) -> Agent:
    """Return what a User-Agent header tells."""
    if not user_agent or not can_parse():
        return Agent()
    from ua_parser import parse

    found = parse(user_agent[:PARSED_LENGTH])
    return Agent(
        browser=_plain(found.user_agent.family) if found.user_agent else "",
        system=_plain(found.os.family) if found.os else "",
        device=_plain(found.device.family) if found.device else "",
    )


def _plain(family: str) -> str:
    """Return the name that people use: of "Firefox Mobile" and "Mobile Safari" the system says the rest."""
    for word in (" Mobile", "Mobile ", " iOS"):
        family = family.replace(word, "")
    return {"Mac OS X": "macOS"}.get(family, family)
