"""Shortens the tracebacks in the log of an app to the app's own frames."""

import logging
import sys
from pathlib import Path
from traceback import StackSummary, TracebackException
from typing import TypeAlias

_ExcInfo: TypeAlias = "logging._SysExcInfoType"

_LIBRARIES = frozenset({"site-packages", "dist-packages"})


def install(folder: Path) -> None:
    """Shorten all tracebacks that this process logs.

    The first one says how to see the others whole.

    Parameters:
        folder: the app's folder. Frames of code in other folders are left out, and those of virtual environments in it.
    """
    original = logging.Formatter.formatException
    hint = ["\nStart dev with --full-tracebacks to see the frames of libraries, too."]

    def format_exception(self: logging.Formatter, ei: _ExcInfo) -> str:
        error = ei[1]
        if error is None:
            return original(self, ei)
        whole = TracebackException.from_exception(error)
        text = shortened(whole, folder)
        return text + hint.pop() if hint else text

    logging.Formatter.formatException = format_exception  # type: ignore[method-assign]  # every formatter inherits it


def shortened(error: TracebackException, folder: Path) -> str:
    """Return a traceback with the frames of the app, and its causes as far as they have such frames.

    Without a frame of the app, the last frame is shown.
    """
    last = error.stack[-1:]
    _prune(error, folder)
    if not _has_frames(error):
        error.stack = StackSummary.from_list(last)
    return "".join(error.format()).rstrip("\n")


def _prune(error: TracebackException, folder: Path) -> None:
    """Remove the frames of libraries from an error, and from its chain the errors that are left without a frame."""
    error.stack = StackSummary.from_list([frame for frame in error.stack if _is_own(frame.filename, folder)])
    for inner in error.exceptions or ():
        _prune(inner, folder)
    error.__cause__ = _pruned(error.__cause__, folder)
    error.__context__ = _pruned(error.__context__, folder)


def _pruned(error: TracebackException | None, folder: Path) -> TracebackException | None:
    """Return an error of a chain, or if it has no frame of the app the one before it that has, or None."""
    if error is None:
        return None
    _prune(error, folder)
    if _has_frames(error):
        return error
    return error.__cause__ if error.__suppress_context__ else error.__cause__ or error.__context__


def _has_frames(error: TracebackException) -> bool:
    return bool(error.stack) or any(map(_has_frames, error.exceptions or ()))


def _is_own(filename: str, folder: Path) -> bool:
    path = Path(filename)
    if not path.is_relative_to(folder) or path.is_relative_to(sys.prefix):
        return False
    return not _LIBRARIES.intersection(path.parts)
