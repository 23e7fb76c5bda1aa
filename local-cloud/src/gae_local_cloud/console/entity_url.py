"""The addresses of kinds, queries and entities in the console."""

import base64
import binascii
from urllib.parse import urlencode

from aiohttp import web
from google.protobuf.message import DecodeError

from gae_local_cloud.datastore.keys import Partition
from gae_local_cloud.datastore.messages import Key, KeyMessage

KINDS_PATH = "/console/entities"
QUERY_PATH = "/console/entities/query"
ENTITY_PATH = "/console/entities/entity"


def query_url(partition: Partition, **parameters: str) -> str:
    """Return the path of a page of entities, with the parameters that are not empty."""
    return f"{QUERY_PATH}?{urlencode({**partition._asdict(), **_given(parameters)})}"


def _given(parameters: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value}


def entity_url(key: KeyMessage) -> str:
    """Return the path of the page of an entity."""
    return f"{ENTITY_PATH}?key={base64.urlsafe_b64encode(key.SerializeToString()).decode()}"


def key_of(request: web.Request) -> KeyMessage:
    """Return the key that a request names.

    Raises:
        HTTPBadRequest: it names none.
    """
    try:
        key = Key.FromString(base64.urlsafe_b64decode(request.query.get("key", "")))
    except (ValueError, binascii.Error, DecodeError) as error:
        raise web.HTTPBadRequest(text="The address names no key.") from error
    if not key.path:
        raise web.HTTPBadRequest(text="The address names no key.")
    return key


def partition_of(request: web.Request) -> Partition:
    """Return the partition that a request names."""
    query = request.query
    return Partition(query.get("project", ""), query.get("database", ""), query.get("namespace", ""))
