"""Ranges of encoded values, from inequality filters and cursors."""

from typing import NamedTuple

from gae_local_cloud.datastore import ordered


class Bound(NamedTuple):
    """A point just before or just after an encoding."""

    encoded: bytes
    after: bool

    def flipped(self) -> "Bound":
        """Return the same point among inverted encodings, whose order is reversed."""
        return Bound(ordered.invert(self.encoded), not self.after)


class Interval(NamedTuple):
    """The encodings between two bounds; a bound of None is open."""

    low: Bound | None = None
    high: Bound | None = None

    def contains(self, encoded: bytes) -> bool:
        """Return whether an encoding lies between the bounds."""
        if self.low is not None and (encoded < self.low.encoded or (self.low.after and encoded == self.low.encoded)):
            return False
        return self.high is None or encoded < self.high.encoded or (self.high.after and encoded == self.high.encoded)

    def intersect(self, other: "Interval") -> "Interval":
        """Return the intersection of two intervals."""
        lows = [bound for bound in (self.low, other.low) if bound is not None]
        highs = [bound for bound in (self.high, other.high) if bound is not None]
        return Interval(max(lows, default=None), min(highs, default=None))

    def flipped(self) -> "Interval":
        """Return the same interval among inverted encodings."""
        return Interval(
            self.high.flipped() if self.high is not None else None,
            self.low.flipped() if self.low is not None else None,
        )


EVERYTHING = Interval()


class ByteRange(NamedTuple):
    """A range of B-tree keys, ``start <= key < end``; an ``end`` of None is open."""

    start: bytes
    end: bytes | None

    @property
    def empty(self) -> bool:
        """Whether the range is empty."""
        return self.end is not None and self.start >= self.end

    def intersect(self, other: "ByteRange") -> "ByteRange":
        """Return the intersection of two ranges."""
        ends = [end for end in (self.end, other.end) if end is not None]
        return ByteRange(max(self.start, other.start), min(ends, default=None))


EVERYWHERE = ByteRange(b"", None)
NOTHING = ByteRange(b"", b"")


def prefixed(prefix: bytes) -> ByteRange:
    """Return the range of the keys that begin with a prefix."""
    return ByteRange(prefix, ordered.after(prefix))


def key_range(prefix: bytes, interval: Interval) -> ByteRange:
    """Return the range of the keys ``prefix + encoding + anything`` whose encoding lies in an interval."""
    found = prefixed(prefix)
    if interval.low is not None:
        start = _edge(prefix, interval.low)
        if start is None:
            return NOTHING
        found = found.intersect(ByteRange(start, None))
    if interval.high is not None:
        found = found.intersect(ByteRange(b"", _edge(prefix, interval.high)))
    return found


def _edge(prefix: bytes, bound: Bound) -> bytes | None:
    """Return the least key after a bound, or None if every key is before it."""
    encoded = prefix + bound.encoded
    return ordered.after(encoded) if bound.after else encoded
