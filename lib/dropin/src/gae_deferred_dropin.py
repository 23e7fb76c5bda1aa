"""Sees to it that google.appengine is ours alone: two distributions that own the same modules cannot both be right."""

import importlib.metadata
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder

_OTHER = "appengine-python-standard"


class ConflictError(ImportError):
    """Both gae-deferred-dropin and the bundled SDK are installed, or were until pip removed what they share."""


def check() -> None:
    """Make sure that the bundled SDK is not installed.

    Raises:
        ConflictError: it is; the message says what to remove.
    """
    try:
        version = importlib.metadata.version(_OTHER)
    except importlib.metadata.PackageNotFoundError:
        return
    raise ConflictError(
        f"Both gae-deferred-dropin and {_OTHER} {version} are installed, and both own google.appengine. "
        f"Remove one of them, then install the other again, because they share files: "
        f"pip uninstall {_OTHER} && pip install --force-reinstall --no-deps gae-deferred-dropin"
    )


def check_files(path: Sequence[str] | None) -> None:
    """Make sure that this distribution's package is there.

    Parameters:
        path: the folders of the package ``google``.

    Raises:
        ConflictError: it is not; the message says how to bring it back.
    """
    spec = PathFinder.find_spec("google.appengine", path)
    if spec is None or spec.origin is None:
        raise ConflictError(
            f"Files of gae-deferred-dropin are not there any more: pip removed them with {_OTHER}, which has files of "
            "the same names. Bring them back: pip install --force-reinstall --no-deps gae-deferred-dropin"
        )


class _Guard:
    """Notices an import of google.appengine also where the files of this distribution are not what would answer it."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        if name == "google.appengine":
            check()
            check_files(path)
        return None


def install_guard() -> None:
    """Have :func:`check` called when google.appengine is imported. ``gae_deferred_dropin.pth`` calls it at start."""
    if _Guard not in sys.meta_path:
        sys.meta_path.insert(0, _Guard)
