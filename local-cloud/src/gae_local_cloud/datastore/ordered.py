"""Order-preserving encodings: byte strings that sort like the values that they encode.

Everything that Datastore sorts (values, keys, positions in a query's results) is stored as bytes that compare like the
originals, left to right and unsigned, so that SQLite's B-trees can serve ranges of them. Two rules make encodings safe
to concatenate:

- *prefix-free*: no encoding is a prefix of another, so a concatenation compares component by component;
- *invertible*: flipping every bit of an encoding reverses the order, which makes descending components.
"""

import math
import struct

TERMINATOR = b"\x00\x00"
_ESCAPED_ZERO = b"\x00\xff"
_FLIP = bytes(255 - byte for byte in range(256))
_SIGN = 2**63
_U64 = struct.Struct(">Q")
_DOUBLE = struct.Struct(">d")
_CANONICAL_NAN = _DOUBLE.pack(float("nan"))


def text(data: bytes) -> bytes:
    """Encode a byte string of any length. A zero byte is escaped, two zero bytes terminate."""
    return data.replace(b"\x00", _ESCAPED_ZERO) + TERMINATOR


def untext(encoded: bytes, start: int = 0) -> tuple[bytes, int]:
    """Decode a :func:`text` that starts at an offset; return it and the offset after it."""
    end = encoded.index(TERMINATOR, start)
    return encoded[start:end].replace(_ESCAPED_ZERO, b"\x00"), end + 2


def text_size(encoded: bytes) -> int:
    """Return the number of bytes in a :func:`text`: each zero byte has one more, and the terminator is two zeros."""
    return len(encoded) - encoded.count(b"\x00")


def integer(number: int) -> bytes:
    """Encode a signed 64-bit integer in 8 bytes."""
    return _U64.pack(number + _SIGN)


def uninteger(encoded: bytes, start: int = 0) -> int:
    """Decode an :func:`integer` that starts at an offset."""
    (number,) = _U64.unpack_from(encoded, start)
    return int(number) - _SIGN


def double(number: float) -> bytes:
    """Encode a double in 8 bytes: -inf < negative < -0.0 < 0.0 < positive < inf < NaN (every NaN is the same)."""
    packed = _CANONICAL_NAN if math.isnan(number) else _DOUBLE.pack(number)
    if packed[0] & 0x80:
        return invert(packed)
    return bytes((packed[0] | 0x80,)) + packed[1:]


def undouble(encoded: bytes, start: int = 0) -> float:
    """Decode a :func:`double` that starts at an offset."""
    packed = encoded[start : start + 8]
    packed = bytes((packed[0] & 0x7F,)) + packed[1:] if packed[0] & 0x80 else invert(packed)
    (number,) = _DOUBLE.unpack(packed)
    return float(number)


def invert(encoded: bytes) -> bytes:
    """Flip every bit, which reverses the order of prefix-free encodings. Its own inverse."""
    return encoded.translate(_FLIP)


def after(prefix: bytes) -> bytes | None:
    """Return the least byte string greater than all that begin with ``prefix``; None if no string is greater."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return None
    return stripped[:-1] + bytes((stripped[-1] + 1,))
