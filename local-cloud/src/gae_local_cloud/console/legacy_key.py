"""Keys as App Engine's code writes them: ``ndb.Key(...)``, and the string that ``Key.urlsafe()`` returns."""

import base64

from gae_local_cloud.client_library import import_messages
from gae_local_cloud.datastore.messages import KeyMessage


def ndb_text(key: KeyMessage) -> str:
    """Return the expression that makes a key in code, such as ``ndb.Key('Counter', 'v1')``."""
    parts = [repr(part) for element in key.path for part in (element.kind, element.name or element.id)]
    if key.partition_id.namespace_id:
        parts.append(f"namespace={key.partition_id.namespace_id!r}")
    if key.partition_id.database_id:
        parts.append(f"database={key.partition_id.database_id!r}")
    return f"ndb.Key({', '.join(parts)})"


def urlsafe(key: KeyMessage) -> str:
    """Return the string that ``ndb.Key.urlsafe()`` does."""
    elements = []
    for element in key.path:
        named = {"name": element.name} if element.WhichOneof("id_type") == "name" else {"id": element.id}
        elements.append({"type": element.kind, **named})
    partition = key.partition_id
    messages = import_messages("google.cloud.datastore._app_engine_key_pb2")  # on first use
    reference = messages.Reference(app=partition.project_id, path={"element": elements})
    if partition.namespace_id:
        reference.name_space = partition.namespace_id
    if partition.database_id:
        reference.database_id = partition.database_id
    return base64.urlsafe_b64encode(reference.SerializeToString()).rstrip(b"=").decode()
