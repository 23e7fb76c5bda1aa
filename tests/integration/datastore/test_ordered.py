"""Encodings sort like the values that they encode, and can be concatenated."""

import math

from hypothesis import given
from hypothesis import strategies as st

from gae_local_cloud.datastore import keys, meanings, ordered, values

from .wire import Stub, value

_stub = Stub("127.0.0.1:1", "p")

_paths = st.lists(
    st.tuples(st.text(min_size=1, max_size=3), st.one_of(st.integers(1, 300), st.text(min_size=1, max_size=3))),
    min_size=1,
    max_size=3,
).map(lambda elements: [part for element in elements for part in element])


def _sorts_before(left: list[str | int], right: list[str | int]) -> bool:
    def comparable(path: list[str | int]) -> list[tuple[int, int, bytes]]:
        return [(0, part, b"") if isinstance(part, int) else (1, 0, part.encode()) for part in path]

    return comparable(left) < comparable(right)


@given(_paths, _paths)
def test_paths_sort_by_element_ids_before_names_ancestors_before_descendants(left, right):
    encoded = [keys.encode_path(_stub.key(*path)) for path in (left, right)]
    assert (encoded[0] < encoded[1]) == _sorts_before(left, right)


@given(_paths, _paths)
def test_inverted_paths_sort_the_other_way(left, right):
    one, two = (ordered.invert(keys.encode_path(_stub.key(*path))) for path in (left, right))
    assert (one < two) == _sorts_before(right, left)


@given(_paths)
def test_a_path_comes_back_as_it_went_in(path):
    key = _stub.key(*path)
    assert keys.make_key(keys.partition_of(key), keys.encode_path(key)) == key
    assert keys.kind_of(keys.encode_path(key)) == path[-2]
    lineage = [keys.encode_path(_stub.key(*path[: end + 2])) for end in range(0, len(path), 2)]
    assert keys.lineage(keys.encode_path(key)) == lineage


@given(_paths, _paths)
def test_descendants_are_the_paths_that_begin_with_their_ancestors_prefix(path, more):
    ancestor = keys.ancestor_prefix(keys.encode_path(_stub.key(*path)))
    assert keys.encode_path(_stub.key(*path, *more)).startswith(ancestor)
    assert keys.encode_path(_stub.key(*more)).startswith(ancestor) == (more[: len(path)] == path)


@given(st.floats(), st.floats())
def test_doubles_sort_by_size_with_nan_last_and_negative_zero_first(left, right):
    def comparable(number: float) -> tuple[bool, float, float]:
        return (True, 0.0, 0.0) if math.isnan(number) else (False, number, math.copysign(1.0, number))

    assert (ordered.double(left) < ordered.double(right)) == (comparable(left) < comparable(right))


@given(st.binary(max_size=5), st.binary(max_size=5), st.binary(max_size=3))
def test_text_sorts_by_bytes_whatever_follows_it(left, right, tail):
    if left != right:
        assert (ordered.text(left) + tail < ordered.text(right)) == (left < right)
    assert ordered.untext(b"x" + ordered.text(left) + tail, 1) == (left, 1 + len(ordered.text(left)))


@given(st.binary(max_size=5))
def test_the_size_of_text_is_that_of_its_bytes(data):
    assert ordered.text_size(ordered.text(data)) == len(data)


def test_types_sort_in_the_documented_order():
    things = [None, -5, 3, False, True, b"a", "b", -1.5, 2.0, math.inf, math.nan, (1.0, 2.0), _stub.key("K", "n")]
    encoded = [values.encode(value(thing)) for thing in things]
    assert encoded == sorted(encoded)


@given(
    st.one_of(
        st.none(),
        st.integers(-(2**63), 2**63 - 1),
        st.booleans(),
        st.text(max_size=5),
        st.floats(allow_nan=False),
        st.tuples(st.floats(-90, 90), st.floats(-180, 180)),
        _paths.map(lambda path: _stub.key(*path)),
    ),
    st.binary(max_size=3),
)
def test_a_value_comes_back_from_its_encoding_whatever_follows_it(thing, tail):
    encoded = values.encode(value(thing))
    assert values.end_of(b"?" + encoded + tail, 1) == 1 + len(encoded)
    assert values.decode(encoded) == value(thing, meaning=meanings.INDEX_VALUE)


def test_after_is_the_first_string_beyond_a_prefix():
    assert ordered.after(b"ab") == b"ac"
    assert ordered.after(b"a\xff\xff") == b"b"
    assert ordered.after(b"\xff") is None
