"""Writes GQL: the queries behind the links and forms of a table of entities."""

import re

_NAME = re.compile(r"[A-Za-z_$][A-Za-z_$0-9]*")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
_TYPED = re.compile(r"(KEY|DATETIME|BLOB|ARRAY)\s*\(.*\)|'.*'|\".*\"", re.IGNORECASE | re.DOTALL)

OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
"""The comparisons that the form offers."""


def select(kind: str, *, sort: str = "", property_name: str = "", operator: str = "=", value: str = "") -> str:
    """Return the query for the entities of a kind.

    Parameters:
        sort: the property to sort by, with ``-`` before it for descending; ``""`` for the key.
        property_name: the property of a condition; ``""`` for none.
        operator: of :data:`OPERATORS`.
        value: as a person types it: what is no number, constant or GQL literal is a string.
    """
    query = f"SELECT * FROM {_backquoted(kind)}"  # noqa: S608 - this is GQL, and names and values are quoted
    if property_name:
        query += f" WHERE {_property(property_name)} {operator if operator in OPERATORS else '='} {literal(value)}"
    if sort:
        query += f" ORDER BY {_property(sort.removeprefix('-'))}{' DESC' if sort.startswith('-') else ''}"
    return query


def _property(name: str) -> str:
    """Return the name of a property, each part in backquotes: ``address.city`` is a property of a property."""
    return ".".join(_backquoted(part) for part in name.split(".")) if name.strip(".") else _backquoted(name)


def _backquoted(part: str) -> str:
    if part == "__key__" or _NAME.fullmatch(part):
        return part if part == "__key__" else f"`{part}`"
    escaped = part.replace("\\", "\\\\").replace("`", "``")
    return f"`{escaped}`"


def literal(value: str) -> str:
    """Return a value as GQL."""
    value = value.strip()
    if value.lower() in ("true", "false", "null") or _NUMBER.fullmatch(value) or _TYPED.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n").replace("\r", "\\r")
    return f"'{escaped}'"
