"""`{% cache %}` for which nobody renders twice: Django's syntax, with `stale=` and `tags=` beside `using=`."""

from typing import Any, Final

from django.core.cache import InvalidCacheBackendError, caches
from django.template import Context, Library, Node, NodeList, TemplateSyntaxError, VariableDoesNotExist
from django.template.base import FilterExpression, Parser, Token

from backroom.cache.fragments import alias_of_fragments, rendered

register = Library()

OPTIONS: Final = ("using", "stale", "tags")


class CacheNode(Node):
    """A fragment, how long it is kept, and what it depends on."""

    def __init__(
        self,
        nodelist: NodeList,
        timeout: FilterExpression,
        fragment_name: str,
        vary_on: list[FilterExpression],
        options: dict[str, FilterExpression],
    ) -> None:
        self.nodelist = nodelist
        self.timeout = timeout
        self.fragment_name = fragment_name
        self.vary_on = vary_on
        self.options = options

    def render(self, context: Context) -> str:
        """Return the fragment."""
        tags = self._option("tags", context) or ()
        return rendered(
            self.fragment_name,
            [each.resolve(context) for each in self.vary_on],
            lambda: self.nodelist.render(context),
            timeout=_seconds(_resolved(self.timeout, context), "timeout"),
            alias=self._alias(context),
            stale=_seconds(self._option("stale", context) or 0, "stale") or 0,
            tags=tuple(tags.split() if isinstance(tags, str) else map(str, tags)),
            # The variable is there only with a context processor; a token is in every page.
            request=getattr(context, "request", None) or context.get("request"),
        )

    def _alias(self, context: Context) -> str:
        alias = self._option("using", context)
        if alias is None:
            return alias_of_fragments()
        try:
            caches[alias]
        except InvalidCacheBackendError:
            msg = f"Invalid cache name specified for cache tag: {alias!r}"
            raise TemplateSyntaxError(msg) from None
        return str(alias)

    def _option(self, name: str, context: Context) -> Any:
        return _resolved(self.options[name], context) if name in self.options else None


@register.tag("cache")
def cache(parser: Parser, token: Token) -> CacheNode:
    """Keep what is between `{% cache 300 name user.pk using="…" stale=60 tags="prices news" %}` and `{% endcache %}`.

    After the name come the values by which it differs. `stale=` is for how many seconds longer it is shown while one
    visitor renders it anew; `tags=` names what it depends on, a text of words or a list.
    """
    nodelist = parser.parse(("endcache",))
    parser.delete_first_token()
    name, *words = token.split_contents()
    options: dict[str, FilterExpression] = {}
    while len(words) > 2 and (found := _option_in(words[-1])):
        options[found] = parser.compile_filter(words.pop().partition("=")[2])
    if len(words) < 2:
        msg = f"{name!r} needs a timeout and a name."
        raise TemplateSyntaxError(msg)
    timeout, fragment_name, *vary_on = words
    return CacheNode(
        nodelist,
        parser.compile_filter(timeout),
        fragment_name,
        [parser.compile_filter(each) for each in vary_on],
        options,
    )


def _option_in(word: str) -> str | None:
    name = word.partition("=")[0]
    return name if "=" in word and name in OPTIONS else None


def _resolved(expression: FilterExpression, context: Context) -> Any:
    try:
        return expression.resolve(context)
    except VariableDoesNotExist:
        msg = f'"cache" tag got an unknown variable: {expression.var!r}'
        raise TemplateSyntaxError(msg) from None


def _seconds(value: Any, name: str) -> int | None:
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError, OverflowError):
        msg = f'"cache" tag got a {name} that is no number of seconds: {value!r}'
        raise TemplateSyntaxError(msg) from None
