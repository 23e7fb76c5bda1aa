"""The script that a process was started with, and the module as which other processes import it."""

import functools
import importlib.util
import sys
from pathlib import Path


@functools.cache
def name() -> str | None:
    """Return the name under which ``__main__`` can be imported elsewhere, such as ``main`` for ``python main.py``.

    From the first call, that name stands for ``__main__`` in this process too: imported a second time, its globals
    would exist twice, and tasks would change the other ones. If it has been imported before, both are left as they are.

    Nothing is imported to find out, but files are compared. It is None for what has no such name: an interactive
    session, a program that is not a ``.py`` file, a package that was started with ``python -m``, a script that another
    module of its name hides.
    """
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    path = getattr(main, "__file__", None) or ""
    found = spec.name if spec is not None else Path(path).name.removesuffix(".py")
    is_importable = path.endswith(".py") and not found.endswith("__main__") and found.isprintable()
    if not is_importable or (spec is None and not (found.isidentifier() and _is_at(path, found))):
        return None
    sys.modules.setdefault(found, main)
    return found


def _is_at(path: str, module: str) -> bool:
    """Return whether importing a module would run the file at a path."""
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:  # the module has been imported, and has no spec: as __main__ has none
        return sys.modules[module] is sys.modules["__main__"]
    origin = spec.origin if spec is not None and spec.has_location else None
    return origin is not None and Path(path).exists() and Path(path).samefile(origin)
