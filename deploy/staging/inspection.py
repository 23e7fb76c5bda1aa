"""Finds the mistakes in a staged app that would make its deploy, or the running app, fail."""

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from deploy.errors import StagingError
from deploy.staging import gunicorn_settings, requirements
from deploy.staging.variables import APP

MAX_FILES = 10_000
"""Files of one version (App Engine documentation, "Quotas and limits")."""

MAX_FILE_BYTES = 32 * 2**20
"""Size of one file (same page)."""

_UNWANTED = {".git", ".local-cloud", ".env", "pyvenv.cfg", "tests", "__pycache__", ".nox"}
"""Names of files and folders that an instance does not need. Some hold secrets."""

_TEST = re.compile(r"test_.*\.py|conftest\.py")


@dataclass(frozen=True)
class Staged:
    """An app that is ready for `gcloud app deploy`.

    Attributes:
        folder: the staged folder.
        files: the files to upload, as sorted paths relative to the folder.
        requirements: text of requirements.txt: every package in one version, and the library as a wheel.
        settings: content of app.yaml.
        notes: what the staging has changed, for a person to know.
    """

    folder: Path
    files: tuple[str, ...]
    requirements: str
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def entrypoint(self) -> str:
        """The command that serves the app."""
        return str(self.settings["entrypoint"])


def inspect(staged: Staged, app_dir: Path) -> None:
    """Check that a staged app is complete, and has no file that should stay on the developer's machine.

    Parameters:
        staged: the app.
        app_dir: the folder that it was staged from.

    Raises:
        StagingError: it is not. The message has a line for each problem.
    """
    environment = staged.settings.get("env_variables") or {}
    checks = [
        *[_limits(staged), _unwanted(staged), _app_yaml(staged), _bundled_sdk(staged), _entrypoint(staged)],
        *[gunicorn_settings.problems(staged.folder, staged.entrypoint, environment), _imports(staged, app_dir)],
    ]
    problems = [problem for check in checks for problem in check]
    if problems:
        lines = "\n".join(f"- {problem}" for problem in problems)
        raise StagingError(f"{app_dir} cannot be deployed as it is:\n{lines}")


def _limits(staged: Staged) -> Iterator[str]:
    if len(staged.files) > MAX_FILES:
        yield f"it has {len(staged.files)} files, and App Engine takes {MAX_FILES}: name some in .gcloudignore"
    for name in staged.files:
        size = (staged.folder / name).stat().st_size
        if size > MAX_FILE_BYTES:
            yield f"{name} has {size} bytes, and App Engine takes {MAX_FILE_BYTES}: put it into Cloud Storage"


def _unwanted(staged: Staged) -> Iterator[str]:
    for name in staged.files:
        parts = PurePosixPath(name).parts
        if _UNWANTED.intersection(parts) or _TEST.fullmatch(parts[-1]):
            yield f"{name} should stay on your machine: name it in .gcloudignore"


def _app_yaml(staged: Staged) -> Iterator[str]:
    handlers = staged.settings.get("handlers") or []
    for handler in handlers if isinstance(handlers, list) else []:
        named = handler.get("static_dir") or handler.get("static_files") or ""
        if named and "\\" not in named and not (staged.folder / named).exists():
            yield f"app.yaml names {named}, which is not there"


def _bundled_sdk(staged: Staged) -> Iterator[str]:
    packages = requirements.names(staged.requirements)
    if not any(name.startswith("gae_deferred_dropin-") for name in packages):
        return
    if requirements.BUNDLED_SDK in packages:
        yield requirements.BOTH_SDKS
    if staged.settings.get("app_engine_apis"):
        yield "app.yaml has app_engine_apis: true, for the bundled SDK. The drop-in replaces the SDK: remove the line"


def _entrypoint(staged: Staged) -> Iterator[str]:
    try:
        words = shlex.split(staged.entrypoint)
    except ValueError as error:
        yield f"the entrypoint {staged.entrypoint!r} is no command: {error}"
        return
    packages = requirements.names(staged.requirements)
    if words[0] == "gunicorn" and "gunicorn" not in packages:
        yield "the entrypoint is gunicorn, which requirements.txt does not name: add it"
    if not any(name.endswith(".whl") and name in staged.files for name in packages):
        yield "requirements.txt names no wheel that is in the folder: .gcloudignore must not name *.whl"
    for word in words:
        if APP.fullmatch(word):
            yield from _app(staged, *word.split(":"))


def _app(staged: Staged, module: str, name: str) -> Iterator[str]:
    """Check that the app that gunicorn imports exists."""
    path = module.replace(".", "/")
    source = next((file for file in (f"{path}.py", f"{path}/__init__.py") if file in staged.files), None)
    if source is None:
        yield f"the entrypoint serves {module}:{name}, but there is no {path}.py"
    elif name not in _names(_parse(staged, source)):
        yield f"the entrypoint serves {module}:{name}, but {source} defines no {name}"


def _imports(staged: Staged, app_dir: Path) -> Iterator[str]:
    """Look for modules of the app that are imported, but not staged."""
    there = {PurePosixPath(name).parts[0].removesuffix(".py") for name in staged.files}
    for source in staged.files:
        if not source.endswith(".py"):
            continue
        for module in _imported(_parse(staged, source)):
            of_app = (app_dir / f"{module}.py").is_file() or (app_dir / module / "__init__.py").is_file()
            if of_app and module not in there:
                yield f"{source} imports {module}, which .gcloudignore leaves behind"


def _parse(staged: Staged, source: str) -> ast.Module:
    try:
        return ast.parse((staged.folder / source).read_bytes(), source)
    except SyntaxError as error:
        raise StagingError(f"{source}, line {error.lineno}: {error.msg}") from error


def _imported(tree: ast.Module) -> set[str]:
    """Return the top-level packages that a module imports, except by relative imports."""
    nodes = list(ast.walk(tree))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in plain | froms}


def _names(tree: ast.Module) -> set[str]:
    """Return all names that a module assigns, defines or imports, in any scope."""
    nodes = list(ast.walk(tree))
    assigned = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    return assigned | defined | {alias.asname or alias.name for node in imports for alias in node.names}
