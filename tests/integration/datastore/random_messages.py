"""Random protobuf messages, for tests with malformed and unusual requests."""

from google.protobuf import descriptor
from hypothesis import strategies as st

names = st.sampled_from(["", "K", "a", "a.b", "__key__", "__kind__", "__x__", ".", "a\\", "\x00", "é" * 400])
_SCALARS = {
    descriptor.FieldDescriptor.TYPE_STRING: st.one_of(
        names, st.sampled_from(["SELECT * FROM K", "SELECT COUNT(*) FROM K WHERE a = @1", "select"])
    ),
    descriptor.FieldDescriptor.TYPE_BYTES: st.one_of(st.binary(max_size=12), st.just(b"\x01\x8d\xa6h\xf0\x01K\x00")),
    descriptor.FieldDescriptor.TYPE_BOOL: st.booleans(),
    descriptor.FieldDescriptor.TYPE_DOUBLE: st.floats(),
    descriptor.FieldDescriptor.TYPE_INT32: st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31)]),
    descriptor.FieldDescriptor.TYPE_INT64: st.sampled_from([0, 1, 5, -1, 2**63 - 1, -(2**63)]),
    descriptor.FieldDescriptor.TYPE_ENUM: st.integers(0, 14),
}


@st.composite
def message(draw, shape, depth=0):
    """Draw a message of a type with random fields set to random values."""
    found = shape._concrete_class()
    fields = [field for field in shape.fields if depth < 6 or field.type != field.TYPE_MESSAGE]
    for field in draw(st.lists(st.sampled_from(fields), max_size=4, unique_by=lambda one: one.name)) if fields else []:
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        for _ in range(draw(st.integers(0, 2)) if field.is_repeated else 1):
            if is_map:
                entry = field.message_type.fields_by_name["value"]
                made = draw(message(entry.message_type, depth + 1)) if entry.message_type else draw(names)
                if entry.message_type:
                    getattr(found, field.name)[draw(names)].CopyFrom(made)
            elif field.type == field.TYPE_MESSAGE:
                made = draw(message(field.message_type, depth + 1))
                target = getattr(found, field.name)
                if field.is_repeated:
                    target.append(made)
                else:
                    target.CopyFrom(made)
            elif field.is_repeated:
                getattr(found, field.name).append(draw(_SCALARS[field.type]))
            else:
                setattr(found, field.name, draw(_SCALARS[field.type]))
    return found
