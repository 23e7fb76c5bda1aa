"""Finds settings of gunicorn that let a client forge App Engine's headers.

App Engine removes the header ``X-AppEngine-QueueName`` from a client's request, but not ``X_AppEngine_QueueName``. WSGI
has the same name for both: ``HTTP_X_APPENGINE_QUEUENAME``. By default gunicorn drops headers with underscores (gunicorn
documentation, "Settings", ``header_map`` and ``forwarder_headers``).
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.errors import StagingError

_OPTIONS = {"header_map": r"--header[\w-]*", "forwarder_headers": r"--forwarder[\w-]*"}
"""Option of each setting. gunicorn accepts abbreviations."""

_FILE_OPTION = re.compile(r"(?:^|\s)(?:-c|--config)(?:\s+|=)?(\S+)")
_DEFAULT_FILE = "gunicorn.conf.py"
_COMPUTED = object()


def problems(folder: Path, entrypoint: str, environment: dict[str, Any]) -> Iterator[str]:
    """Yield each setting that lets a client forge App Engine's headers, with the place where it is set.

    Parameters:
        folder: the staged app.
        entrypoint: entrypoint of its app.yaml.
        environment: environment variables of its app.yaml.

    Raises:
        StagingError: gunicorn's configuration file has a syntax error.
    """
    if "gunicorn" not in entrypoint:
        return
    arguments = str(environment.get("GUNICORN_CMD_ARGS", ""))
    for setting in _OPTIONS:
        place, values = _values(setting, folder, entrypoint, arguments)
        for value in values:
            if value is _COMPUTED:
                yield f"{place} computes gunicorn's {setting}: write it as a literal, so that it can be checked"
            elif _is_dangerous(setting, value):
                yield (
                    f"{place} sets gunicorn's {setting} to {value!r}: clients could then forge App Engine's headers, "
                    "by writing X_AppEngine_QueueName for X-AppEngine-QueueName. Remove the setting"
                )


def _is_dangerous(setting: str, value: object) -> bool:
    if setting == "header_map":
        return str(value).strip().lower() == "dangerous"
    names = value if isinstance(value, list | tuple | set) else str(value).split(",")
    return any(str(name).strip().upper().startswith(("*", "X_APPENGINE", "X_GOOGLE")) for name in names)


def _values(setting: str, folder: Path, entrypoint: str, arguments: str) -> tuple[str, list[object]]:
    """Return where a setting is set, and its values. In falling precedence: command line, variable, file."""
    option = re.compile(rf"(?:^|\s){_OPTIONS[setting]}(?:\s+|=)['\"]?([^'\"\s]+)")
    for place, text in (("the entrypoint", entrypoint), ("GUNICORN_CMD_ARGS in app.yaml", arguments)):
        if found := option.findall(text):
            return place, found[-1:]
    named = _FILE_OPTION.findall(entrypoint) or _FILE_OPTION.findall(arguments) or [_DEFAULT_FILE]
    name = named[-1].strip("'\"").removeprefix("file:")
    if name.startswith("python:"):
        name = name.removeprefix("python:").replace(".", "/") + ".py"
    file = folder / name
    return name, list(_assigned(setting, file)) if file.is_file() else []


def _assigned(setting: str, file: Path) -> Iterator[object]:
    """Yield all values that a configuration file assigns to a setting; ``_COMPUTED`` for one that is no literal."""
    try:
        tree = ast.parse(file.read_bytes(), file.name)
    except SyntaxError as error:
        raise StagingError(f"{file.name}, line {error.lineno}: {error.msg}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets = [node.target]
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == setting for target in targets):
            yield _literal(node.value)


def _literal(value: ast.expr | None) -> object:
    try:
        return ast.literal_eval(value) if value else None
    except (ValueError, TypeError):
        return _COMPUTED
