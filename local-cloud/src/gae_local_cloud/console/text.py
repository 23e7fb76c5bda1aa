"""Times, durations and sizes as the console writes them."""

import datetime

from gae_local_cloud.clock import SECOND

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def iso_time(micros: int) -> str:
    """Return a time in microseconds since the epoch as RFC 3339, in UTC."""
    return _datetime(micros, datetime.UTC).isoformat().replace("+00:00", "Z")


def local_time(micros: int, now: int) -> str:
    """Return a time as people of the machine's time zone write it, with its date unless that is today's."""
    when, today = _datetime(micros, None), _datetime(now, None)
    text = when.strftime("%H:%M:%S")
    if when.date() == today.date():
        return text
    return f"{when.strftime('%b')} {when.day}{'' if when.year == today.year else f' {when.year}'}, {text}"


def relative_time(micros: int, now: int) -> str:
    """Return how far a time is from now: ``in 59 s``, ``2 min ago``."""
    seconds = (micros - now) / SECOND
    if abs(seconds) < 1:
        return "now"
    return f"in {rough_duration(seconds)}" if seconds > 0 else f"{rough_duration(-seconds)} ago"


def rough_duration(seconds: float) -> str:
    """Return a duration with its two largest units: ``1 min 40 s``."""
    rest = max(1, round(seconds))
    counts = []
    for length, unit in _UNITS:
        count, rest = divmod(rest, length)
        counts.append((count, unit))
    first = next(place for place, (count, _) in enumerate(counts) if count)
    return " ".join(f"{count} {unit}" for count, unit in counts[first : first + 2] if count)


def duration(seconds: float) -> str:
    """Return a duration to be compared with others: ``0 ms``, ``12 ms``, ``1.25 s``, ``1 min 40 s``."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    return rough_duration(seconds)


def size(count: int) -> str:
    """Return a number of bytes."""
    if count < 1024:
        return f"{count} byte{'' if count == 1 else 's'}"
    if count < 2**20:
        return f"{count / 1024:.1f} KiB"
    return f"{count / 2**20:.1f} MiB"


def number(count: int) -> str:
    """Return a number with separators."""
    return f"{count:,}"


def _datetime(micros: int, zone: datetime.tzinfo | None) -> datetime.datetime:
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(microseconds=micros)
    return moment.astimezone(zone)
