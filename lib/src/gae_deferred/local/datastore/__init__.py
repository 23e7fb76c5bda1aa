"""An embedded Datastore: Firestore in Datastore mode, as its clients see it, on one SQLite file."""

from gae_deferred.local.datastore.exchange import ImportFailed
from gae_deferred.local.datastore.index_yaml import IndexFileError
from gae_deferred.local.datastore.schema import MIGRATIONS
from gae_deferred.local.datastore.server import DatastoreServer

__all__ = ["MIGRATIONS", "DatastoreServer", "ImportFailed", "IndexFileError"]
