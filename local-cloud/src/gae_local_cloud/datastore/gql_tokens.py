"""Splits the text of a GQL query into tokens."""

import re
from typing import NamedTuple

from gae_local_cloud.datastore.errors import InvalidArgument

_LETTERS_AFTER_BACKSLASH = r"""["%'0Z\\_`bnrt]"""
_TOKEN = re.compile(
    rf"""\s*(?:
        (?P<binding>@[A-Za-z_$][A-Za-z_$0-9]*|@[0-9]+)
      | (?P<double>[+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?[0-9]+[eE][+-]?[0-9]+)
      | (?P<integer>[+-]?[0-9]+)
      | (?P<string>'(?:[^'\\\n\r]|\\{_LETTERS_AFTER_BACKSLASH}|'')*'|"(?:[^"\\\n\r]|\\{_LETTERS_AFTER_BACKSLASH}|"")*")
      | (?P<name>(?:[A-Za-z_$][A-Za-z_$0-9]*|`(?:[^`\\\n\r]|\\{_LETTERS_AFTER_BACKSLASH}|``)+`))
      | (?P<symbol><=|>=|!=|[*(),.=<>+])
      | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"""\\(.)|(['"`])\2""")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "0": "\0", "Z": "\x1a", "%": "\\%", "_": "\\_"}


class Token(NamedTuple):
    """A token of a query.

    Parameters:
        kind: ``binding``, ``double``, ``integer``, ``string``, ``name``, ``quoted`` (a name in backquotes, never a
            keyword), ``symbol`` or ``end``.
        text: the token; a string or name without its quotes, a binding without its ``@``.
        place: offset in the query.
    """

    kind: str
    text: str
    place: int

    @property
    def keyword(self) -> str:
        """The token in capitals if it may be a keyword, else the empty string."""
        return self.text.upper() if self.kind == "name" else ""


def tokenize(query: str) -> list[Token]:
    """Return the tokens of a query; the last is an ``end``.

    Raises:
        InvalidArgument: some text is not a token of GQL.
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
    quote = text[0]

    def unescape(match: re.Match[str]) -> str:
        letter, doubled = match.groups()
        if doubled:
            return quote if doubled == quote else match[0]
        return _ESCAPED.get(letter, letter)

    return _ESCAPE.sub(unescape, text[1:-1])
