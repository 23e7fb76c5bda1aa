"""An embedded Datastore: Firestore in Datastore mode, as its clients see it, on one SQLite file."""

from gae_local_cloud.datastore.exchange import ImportFailed
from gae_local_cloud.datastore.index_yaml import IndexFileError
from gae_local_cloud.datastore.schema import MIGRATIONS
from gae_local_cloud.datastore.server import DatastoreServer

__all__ = ["MIGRATIONS", "DatastoreServer", "ImportFailed", "IndexFileError"]
