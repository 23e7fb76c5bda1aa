"""Keys as App Engine's code writes them: ``ndb.Key(...)``, and the string that ``Key.urlsafe()`` returns."""

import base64
import functools
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import google.cloud

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
    reference = _messages().Reference(app=partition.project_id, path={"element": elements})
    if partition.namespace_id:
        reference.name_space = partition.namespace_id
    if partition.database_id:
        reference.database_id = partition.database_id
    return base64.urlsafe_b64encode(reference.SerializeToString()).rstrip(b"=").decode()


@functools.cache
def _messages() -> ModuleType:
    """Import the message of old keys without the client library around it, which takes a second and 30 MB."""
    package = PathFinder.find_spec("google.cloud.datastore", google.cloud.__path__)
    assert package is not None  # noqa: S101 - a dependency
    assert package.submodule_search_locations is not None  # noqa: S101 - a package
    path = Path(package.submodule_search_locations[0], "_app_engine_key_pb2.py")
    spec = spec_from_file_location("gae_local_cloud.console.app_engine_key", path)
    assert spec is not None  # noqa: S101 - a Python file
    assert spec.loader is not None  # noqa: S101 - likewise
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
