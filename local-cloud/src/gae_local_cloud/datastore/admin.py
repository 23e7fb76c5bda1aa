"""The Datastore Admin API, which this server does not implement: it names the local equivalent of each method."""

from gae_local_cloud.datastore.errors import Unimplemented

SERVICE = "google.datastore.admin.v1.DatastoreAdmin"

_INDEXES = (
    "it builds indexes by itself. Declare composite indexes for production in index.yaml (--index-yaml), "
    "and use --require-indexes to find missing ones"
)
_INSTEAD = {
    "ExportEntities": "run 'gae-local-cloud data export FILE'",
    "ImportEntities": "stop it and run 'gae-local-cloud data import FILE'",
    "CreateIndex": _INDEXES,
    "DeleteIndex": _INDEXES,
    "GetIndex": _INDEXES,
    "ListIndexes": _INDEXES,
}

METHODS = tuple(_INSTEAD)


def unimplemented(method: str) -> Unimplemented:
    """Return the error that answers a method, with its local equivalent in the message."""
    return Unimplemented(f"The local Datastore has no {method}: {_INSTEAD[method]}.")
