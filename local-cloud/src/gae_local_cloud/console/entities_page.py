"""A table of entities: of a kind, or of a query in GQL."""

import re
from dataclasses import dataclass

from aiohttp import web

from gae_local_cloud.console import gql_text
from gae_local_cloud.console.entity_query import EntityTable, run
from gae_local_cloud.console.entity_url import partition_of, query_url
from gae_local_cloud.console.pages import Page
from gae_local_cloud.datastore import DatastoreServer
from gae_local_cloud.datastore.errors import DatastoreError
from gae_local_cloud.datastore.keys import Partition

_PLACE = re.compile(r"at position (\d+)")


@dataclass(frozen=True)
class Asked:
    """What a request asks for.

    Attributes:
        kind: whose entities; ``""`` if the query is in GQL.
        sort, property_name, operator, value: as :func:`gql_text.select` takes them.
        gql: the query.
        after: the cursor of the page before.
    """

    partition: Partition
    kind: str
    sort: str
    property_name: str
    operator: str
    value: str
    gql: str
    after: str

    @classmethod
    def of(cls, request: web.Request) -> "Asked":
        """Read a request's parameters."""
        query = request.query
        kind, sort = query.get("kind", ""), query.get("sort", "")
        condition = (query.get("property", "").strip(), query.get("operator", "="), query.get("value", ""))
        text = query.get("gql", "").strip()
        if kind and not text:
            name, operator, value = condition
            text = gql_text.select(kind, sort=sort, property_name=name, operator=operator, value=value)
        elif text:
            kind = sort = ""
        return cls(partition_of(request), kind, sort, *condition, text, query.get("after", ""))

    def url(self, **changes: str) -> str:
        """Return the address of a page that differs in some parameters, and begins at its start."""
        if not self.kind:
            return query_url(self.partition, gql=self.gql, **changes)
        parameters = {
            "kind": self.kind,
            "sort": self.sort,
            "property": self.property_name,
            "operator": self.operator,
            "value": self.value,
        }
        return query_url(self.partition, **{**parameters, **changes})


@dataclass(frozen=True)
class GqlError:
    """Why a query cannot be run.

    Attributes:
        message: in words.
        before, at, after: the query, taken apart where it is wrong; all of it is ``before`` if that is not known.
    """

    message: str
    before: str
    at: str = ""
    after: str = ""


class EntitiesPage:
    """Shows tables of entities."""

    def __init__(self, server: DatastoreServer) -> None:
        self._service = server.service

    async def show(self, request: web.Request) -> Page:
        """Return the page."""
        asked = Asked.of(request)
        table, error = EntityTable((), ()), None
        try:
            table = await run(self._service, asked.partition, asked.gql, asked.after)
        except DatastoreError as refusal:
            error = _error(asked.gql, str(refusal))
        return Page(
            "entities.html",
            {"asked": asked, "table": table, "error": error, "operators": gql_text.OPERATORS},
            400 if error else 200,
        )


def _error(query: str, message: str) -> GqlError:
    place = _PLACE.search(message)
    if place is None:
        return GqlError(message, query)
    start = min(int(place[1]), len(query))
    word = re.match(r"\s*(\w+|.)?", query[start:], re.DOTALL)
    end = start + (word.end() if word else 0)
    return GqlError(message, query[:start], query[start:end] or "⏎", query[end:])
