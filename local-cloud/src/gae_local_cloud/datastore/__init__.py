"""An embedded server of Firestore in Datastore mode, on one SQLite file."""

from gae_local_cloud.datastore.exchange import ImportFailed, write_export
from gae_local_cloud.datastore.http_face import HttpFace
from gae_local_cloud.datastore.index_yaml import IndexFileError
from gae_local_cloud.datastore.schema import MIGRATIONS
from gae_local_cloud.datastore.server import DatastoreServer
from gae_local_cloud.datastore.service import DatastoreService
from gae_local_cloud.datastore.transactions import Concurrency

__all__ = [
    "MIGRATIONS",
    "Concurrency",
    "DatastoreServer",
    "DatastoreService",
    "HttpFace",
    "ImportFailed",
    "IndexFileError",
    "write_export",
]
