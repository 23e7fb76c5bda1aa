"""The small faults that can be planted into a module."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_PAIRS = (
    *((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot), (ast.In, ast.NotIn)),
    *((ast.And, ast.Or), (ast.Add, ast.Sub)),
)
_SWAPS: dict[type[ast.AST], Any] = {one: other() for pair in _PAIRS for one, other in (pair, pair[::-1])}


@dataclass(frozen=True)
class Mutant:
    """A module with one fault.

    Attributes:
        path: path of the module in the repository.
        line: number of the first line with the fault.
        last: number of the last line with the fault.
        before: these lines without the fault, whitespace shortened.
        after: these lines.
        source: the whole module with the fault.
    """

    path: str
    line: int
    last: int
    before: str
    after: str
    source: str


def mutants_of(path: str, source: str) -> Iterator[Mutant]:
    """Yield each mutant of a module, in the order of its lines."""
    data = source.encode()
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node, after in sorted(_faults(ast.parse(source)), key=lambda fault: (fault[0].lineno, fault[0].col_offset)):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        last = node.end_lineno or node.lineno
        head, tail = data[starts[node.lineno - 1] : begin].decode(), data[end : starts[last]].decode()
        lines = [" ".join(f"{head}{code}{tail}".split()) for code in (data[begin:end].decode(), after)]
        mutated = (data[:begin] + after.encode() + data[end:]).decode()
        yield Mutant(path, node.lineno, last, lines[0], lines[1], mutated)


def _faults(node: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """Yield nodes of a tree and the code to put in their place."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    if isinstance(node, ast.expr | ast.stmt):
        yield from ((node, after) for after in _replacements(node))
    if isinstance(node, ast.If | ast.While) and isinstance(node.test, ast.Name | ast.Attribute | ast.Call):
        yield node.test, f"not {ast.unparse(node.test)}"  # other conditions have a fault of their own
    for child in _children(node):
        yield from _faults(child)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a node whose faults can be seen: no annotations, and no texts for people."""
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Expr) and "_logger." in ast.unparse(node)):
        return
    if _is_without_effect(node):
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_params"):
            continue
        yield from (child for child in (value if isinstance(value, list) else [value]) if isinstance(child, ast.AST))


def _is_without_effect(node: ast.AST) -> bool:
    """Return whether no result depends on a node: arguments of decorators that only forbid, or save memory."""
    return isinstance(node, ast.keyword) and node.arg in ("frozen", "slots", "maxsize")


def _replacements(node: ast.expr | ast.stmt) -> Iterator[str]:
    match node:
        case ast.Compare(left, [op], comparators):
            yield ast.unparse(ast.Compare(left, [_SWAPS[type(op)]], comparators))
        case ast.BoolOp(op, values):
            yield f"({ast.unparse(ast.BoolOp(_SWAPS[type(op)], values))})"
        case ast.BinOp(left, ast.Add() | ast.Sub() as op, right):
            yield f"({ast.unparse(ast.BinOp(left, _SWAPS[type(op)], right))})"
        case ast.UnaryOp(ast.Not(), operand):
            yield f"bool({ast.unparse(operand)})"
        case ast.Constant(bool() as value):
            yield str(not value)
        case ast.Constant(int() as value):
            yield str(value + 1)
            yield str(value - 1)
        case ast.IfExp(test, body, orelse):
            yield f"({ast.unparse(ast.IfExp(ast.UnaryOp(ast.Not(), test), body, orelse))})"
        case ast.Return(ast.expr() as value) if ast.unparse(value) not in ("None", "False"):
            yield "return None"
        case ast.Raise() | ast.AugAssign() | ast.Delete():
            yield "pass"
        case ast.Assign([ast.Attribute() | ast.Subscript()]):
            yield "pass"
        case ast.Expr(ast.Call() | ast.Await() as value) if "_logger." not in ast.unparse(value):
            yield "pass"
