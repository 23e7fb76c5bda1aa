"""The words of GQL."""

import re
from typing import NamedTuple

from gae_deferred.local.datastore.errors import InvalidArgument

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<binding>@[A-Za-z_$][A-Za-z_$0-9]*|@[0-9]+)
      | (?P<double>[+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?[0-9]+[eE][+-]?[0-9]+)
      | (?P<integer>[+-]?[0-9]+)
      | (?P<string>'(?:[^'\\\n\r]|\\.|'')*'|"(?:[^"\\\n\r]|\\.|"")*")
      | (?P<name>(?:[A-Za-z_$][A-Za-z_$0-9]*|`(?:[^`\\]|\\.|``)+`))
      | (?P<symbol><=|>=|!=|[*(),.=<>+])
      | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "0": "\0", "Z": "\x1a"}


class Token(NamedTuple):
    """A word of a query.

    Parameters:
        kind: ``binding``, ``double``, ``integer``, ``string``, ``name``, ``quoted`` (a name in backquotes, which is
            never a keyword), ``symbol`` or ``end``.
        text: what it stands for: a string or name without its quotes, a binding without its ``@``.
        place: where it begins in the query.
    """

    kind: str
    text: str
    place: int

    @property
    def keyword(self) -> str:
        """The word in capitals, if it may be a keyword."""
        return self.text.upper() if self.kind == "name" else ""


def tokenize(query: str) -> list[Token]:
    """Return the words of a query, an ``end`` last.

    Raises:
        InvalidArgument: something in it is not a word of GQL.
    """
    tokens: list[Token] = []
    place = 0
    while not tokens or tokens[-1].kind != "end":
        match = _TOKEN.match(query, place)
        if match is None or match.lastgroup is None:
            raise InvalidArgument(f"GQL query error: unexpected {query[place:].strip()[:20]!r} at position {place}.")
        kind, text = match.lastgroup, match[match.lastgroup]
        start, place = match.start(kind), match.end()
        if kind == "name" and text.startswith("`"):
            kind = "quoted"
        if kind in ("quoted", "string"):
            text = _unquote(text)
        tokens.append(Token(kind, text.removeprefix("@") if kind == "binding" else text, start))
    return tokens


def _unquote(text: str) -> str:
    quote, inner = text[0], text[1:-1]
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), inner.replace(quote * 2, quote))
