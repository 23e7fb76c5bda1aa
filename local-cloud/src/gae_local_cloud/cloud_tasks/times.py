"""Times and durations: protobuf messages in the API, whole microseconds inside the server."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from gae_local_cloud.clock import SECOND


def timestamp(microseconds: int) -> Timestamp:
    """Return a time in microseconds since the epoch as a protobuf timestamp."""
    seconds, rest = divmod(microseconds, SECOND)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def from_timestamp(message: Timestamp) -> int:
    """Return a protobuf timestamp in microseconds since the epoch, truncated."""
    return message.seconds * SECOND + message.nanos // 1000


def duration(microseconds: int) -> Duration:
    """Return a number of microseconds, at least 0, as a protobuf duration."""
    seconds, rest = divmod(microseconds, SECOND)
    return Duration(seconds=seconds, nanos=rest * 1000)


def from_duration(message: Duration) -> int:
    """Return a protobuf duration in microseconds, truncated toward zero."""
    return message.seconds * SECOND + int(message.nanos / 1000)
