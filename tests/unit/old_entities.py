"""Models of an app. ``bundled_sdk_entities.json`` holds entities of these models from the bundled NDB."""

from google.cloud import ndb


class Item(ndb.Model):
    title = ndb.StringProperty()
    count = ndb.IntegerProperty()


class Order(ndb.Model):
    customer = ndb.KeyProperty()
    items = ndb.StructuredProperty(Item, repeated=True)
    gift = ndb.StructuredProperty(Item)
    returned = ndb.LocalStructuredProperty(Item, repeated=True)
    tags = ndb.StringProperty("t", repeated=True)
    nothing = ndb.StringProperty(repeated=True)
    note = ndb.TextProperty(compressed=True)
    scan = ndb.BlobProperty()
    details = ndb.JsonProperty()
    price = ndb.FloatProperty()
    paid = ndb.BooleanProperty()
    placed = ndb.DateTimeProperty()
    due = ndb.DateProperty()
    place = ndb.GeoPtProperty()

    def tell(self, *names: str) -> list[object]:
        return [getattr(self, name) for name in names]
