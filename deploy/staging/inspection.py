"""What keeps a staged app from being deployed, or from running once it is."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from deploy.errors import StagingError
from deploy.staging import requirements
from deploy.staging.staged import Staged
from deploy.staging.variables import APP

MOST_FILES = 10_000
"""How many files a version may have (App Engine documentation, "Quotas and limits")."""

MOST_BYTES = 32 * 1024 * 1024
"""How big each of them may be (the same page)."""

_UNWANTED = {".git", ".local-cloud", ".env", "pyvenv.cfg", "tests", "__pycache__", ".nox"}
"""Names of files and folders that have no place in an instance. Some hold secrets."""

_TEST = re.compile(r"test_.*\.py|conftest\.py")


def inspect(staged: Staged, app_dir: Path) -> None:
    """Make sure that a staged app is complete, and has nothing that it should not.

    Parameters:
        staged: the app.
        app_dir: the folder that it was staged from.

    Raises:
        StagingError: it is not. The message has a line for each thing that is wrong.
    """
    looks = [_too_much(staged), _unwanted(staged), _app_yaml(staged), _entrypoint(staged), _imports(staged, app_dir)]
    problems = [problem for look in looks for problem in look]
    if problems:
        lines = "\n".join(f"- {problem}" for problem in problems)
        raise StagingError(f"{app_dir} cannot be deployed as it is:\n{lines}")


def _too_much(staged: Staged) -> Iterator[str]:
    if len(staged.files) > MOST_FILES:
        yield f"it has {len(staged.files)} files, and App Engine takes {MOST_FILES}: name some in .gcloudignore"
    for name in staged.files:
        size = (staged.folder / name).stat().st_size
        if size > MOST_BYTES:
            yield f"{name} has {size} bytes, and App Engine takes {MOST_BYTES}: put it into Cloud Storage"


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
    """Look for what gunicorn imports."""
    path = module.replace(".", "/")
    source = next((file for file in (f"{path}.py", f"{path}/__init__.py") if file in staged.files), None)
    if source is None:
        yield f"the entrypoint serves {module}:{name}, but there is no {path}.py"
    elif name not in _names(_parse(staged, source)):
        yield f"the entrypoint serves {module}:{name}, but {source} defines no {name}"


def _imports(staged: Staged, app_dir: Path) -> Iterator[str]:
    """Look for modules of the app that are imported, and were left behind."""
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
    """Return the first parts of the names of the modules that a module imports, but for relative ones."""
    nodes = list(ast.walk(tree))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in plain | froms}


def _names(tree: ast.Module) -> set[str]:
    """Return the names that a module defines, wherever in it."""
    nodes = list(ast.walk(tree))
    assigned = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    return assigned | defined | {alias.asname or alias.name for node in imports for alias in node.names}
