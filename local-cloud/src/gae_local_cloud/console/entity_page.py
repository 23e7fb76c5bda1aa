"""One entity: its properties with all types of values, and its key in the forms that code uses."""

from aiohttp import web

from gae_local_cloud.console.entity_url import entity_url, key_of, query_url
from gae_local_cloud.console.legacy_key import ndb_text, urlsafe
from gae_local_cloud.console.pages import Page
from gae_local_cloud.console.payload import PayloadReaders
from gae_local_cloud.console.property_value import shown
from gae_local_cloud.datastore import DatastoreServer
from gae_local_cloud.datastore.keys import describe, partition_of
from gae_local_cloud.datastore.messages import Key
from gae_local_cloud.datastore.store import EntityStore, entity_key


class EntityPage:
    """Shows an entity."""

    def __init__(self, server: DatastoreServer, readers: PayloadReaders) -> None:
        self._store: EntityStore = server.service.entities
        self._readers = readers

    async def show(self, request: web.Request) -> Page:
        """Return the page."""
        key = key_of(request)
        stored = self._store.get(entity_key(key))
        if stored is None:
            raise web.HTTPNotFound(text=f"There is no entity {describe(key)}. It may have been deleted.")
        entity = stored.message(key)
        partition, kind = partition_of(key), key.path[-1].kind
        parent = Key(partition_id=key.partition_id, path=key.path[:-1]) if len(key.path) > 1 else None
        return Page(
            "entity.html",
            {
                "title": describe(key),
                "partition": partition,
                "kind": kind,
                "kind_url": query_url(partition, kind=kind),
                "parent": describe(parent) if parent else "",
                "parent_url": entity_url(parent) if parent else "",
                "ndb_key": ndb_text(key),
                "urlsafe": urlsafe(key),
                "created": stored.created,
                "changed": stored.version,
                "size": len(stored.data),
                "properties": [
                    (name, shown(value, self._readers)) for name, value in sorted(entity.properties.items())
                ],
            },
        )
