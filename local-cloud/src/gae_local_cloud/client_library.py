"""Imports the protobuf messages of Google's client libraries without the clients around them.

A server needs only the messages. The ``__init__`` of a library's package imports its clients too, with google-auth and
requests, which takes ten times as long.
"""

import importlib
import sys
import threading
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from types import ModuleType

import google.cloud

_importing = threading.Lock()


def import_messages(module: str) -> ModuleType:
    """Import a module in a package of ``google.cloud`` without running the package's ``__init__.py``.

    A client library imported later in the same process uses the same classes, but its package lacks the module as an
    attribute: where a library may be used too, import it first. Then this returns its module.

    Parameters:
        module: full name, such as ``google.cloud.tasks_v2.types``.

    Raises:
        ModuleNotFoundError: the library is not installed.
    """
    package = module.rpartition(".")[0]
    with _importing:
        if package in sys.modules or module in sys.modules:
            return importlib.import_module(module)
        spec = PathFinder.find_spec(package, google.cloud.__path__)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        sys.modules[package] = module_from_spec(spec)
        try:
            return importlib.import_module(module)
        finally:
            del sys.modules[package]  # a later import of the client library gets the real package
