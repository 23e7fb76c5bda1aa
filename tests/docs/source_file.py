"""Code blocks of pages that are a file of an app, or a part of one."""

import ast
import re
from pathlib import Path

_NAMED = re.compile(r"# (in )?((?:[\w.-]+/)*[\w.-]+\.(?:py|yaml|ini|toml|txt))\n")


def named(block: str) -> tuple[str, bool] | None:
    """Return the file that a block's first line names, and whether the block is only a part of it."""
    match = _NAMED.match(block)
    return (match[2], bool(match[1])) if match else None


def write(block: str, folder: Path) -> bool:
    """Write the file, or the part of a file, that a block is. Return False if it is none."""
    found = named(block)
    if found is None:
        return False
    name, is_part = found
    file = folder / name
    code = block.partition("\n")[2]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(merged(file.read_text(encoding="utf-8"), code) if is_part else code, encoding="utf-8")
    return True


def merged(old: str, new: str) -> str:
    """Return a module with new definitions: in place of those of the same names, or at its end, imports at the top.

    A definition comes with the comments and decorators above it.
    """
    for chunk, node in _chunks(new):
        names = set(_names(node))
        same = next((part for part, other in _chunks(old) if names & set(_names(other))), None)
        if same is not None:
            old = old.replace(same, chunk, 1)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            old = _after_docstring(old, chunk)
        else:
            old = f"{old.rstrip()}\n\n\n{chunk}"
    return old


def _chunks(code: str) -> list[tuple[str, ast.stmt]]:
    """Return each statement of a module with its text, which begins with the decorators and comments above it."""
    lines = code.splitlines(keepends=True)
    chunks = []
    for node in ast.parse(code).body:
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))]) - 1
        while first and lines[first - 1].startswith("#"):
            first -= 1
        chunks.append(("".join(lines[first : node.end_lineno]), node))
    return chunks


def _names(node: ast.stmt) -> list[str]:
    """Return the names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [ast.unparse(target) for target in node.targets]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [f"import {alias.name}" for alias in node.names]
    return []


def _after_docstring(code: str, statement: str) -> str:
    tree = ast.parse(code)
    line = tree.body[0].end_lineno if ast.get_docstring(tree) else 0
    lines = code.splitlines(keepends=True)
    return "".join([*lines[:line], "\n" if line else "", statement, *lines[line:]])
