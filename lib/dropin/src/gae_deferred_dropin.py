"""Detects the bundled SDK beside this distribution: both own the package google.appengine, so only one can work."""

import importlib.metadata
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder

_OTHER = "appengine-python-standard"


class ConflictError(ImportError):
    """The bundled SDK is installed as well, or pip has removed it together with files of this distribution."""


def check() -> None:
    """Make sure that the bundled SDK is not installed.

    Raises:
        ConflictError: it is installed; the message says how to remove it.
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
    """Make sure that the files of this distribution exist.

    Parameters:
        path: the folders of the package ``google``, or None for ``sys.path``.

    Raises:
        ConflictError: they do not; the message says how to bring them back.
    """
    spec = PathFinder.find_spec("google.appengine", path)
    if spec is None or spec.origin is None:
        raise ConflictError(
            f"Files of gae-deferred-dropin are missing: pip removed them with {_OTHER}, which has files of the same "
            "names. Bring them back: pip install --force-reinstall --no-deps gae-deferred-dropin"
        )


class _Guard:
    """Checks each import of google.appengine, even if the files of the bundled SDK would answer it."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        if name == "google.appengine":
            check()
            check_files(path)
        return None


def install_guard() -> None:
    """Run the checks when google.appengine is imported. ``gae_deferred_dropin.pth`` calls this when Python starts."""
    if _Guard not in sys.meta_path:
        sys.meta_path.insert(0, _Guard)
