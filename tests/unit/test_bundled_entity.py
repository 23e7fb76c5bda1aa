"""States of entities that appengine-python-standard 3.1.0 pickled, read into models that have changed since."""

from typing import Any

import pytest
from google.cloud import ndb

from gae_deferred import bundled_entity, datastore

pytestmark = pytest.mark.usefixtures("datastore")

KEY = b"j\x19j\x0cs~my-projectr\t\x0b\x12\x05Order\x0c"
GROUP = b"\x82\x01\x00"

NO_TAGS = KEY + b"r\x0b\x08\x18\x1a\x03tag \x00*\x00" + GROUP
"""State of an entity with ``tag = ndb.StringProperty(repeated=True, write_empty_list=True)``, without values."""

COMPRESSED = KEY + b"z \x08\x0e\x12\x04ZLIB\x1a\x04note \x00*\x0e\x1a\x0cx\x9c\xcb\xcb#\x15\x00\x00$*\x15}" + GROUP
"""State of an entity with ``note = ndb.BlobProperty(compressed=True)``, with the letter n 50 times."""


NAMED = KEY + b"r\x0e\x1a\x04name \x00*\x04\x1a\x02\xc3\xbc" + GROUP
"""State of an entity with ``name = ndb.StringProperty()``, with the letter ü."""


class Anything(ndb.Expando):
    pass


class Uncompressed(ndb.Model):
    note = ndb.BlobProperty()


def read(state: bytes, model: type[ndb.Model]) -> Any:
    bundled_entity.patch_ndb_unpickling()
    entity: Any = model.__new__(model)
    with datastore.context():
        entity.__setstate__(state)
    return entity


def test_an_empty_list_is_a_list_also_where_no_property_says_so():
    assert read(NO_TAGS, Anything).tag == []


def test_text_is_text_also_where_no_property_says_so():
    assert read(NAMED, Anything).name == "ü"


def test_a_compressed_value_is_read_by_a_model_that_does_not_compress():
    assert read(COMPRESSED, Uncompressed).note == b"n" * 50
