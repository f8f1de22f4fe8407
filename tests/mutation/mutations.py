"""Small changes to a module's source, one at a time, each of which a good suite must notice."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator

import attrs

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_CALLS = {"max": "min", "min": "max", "any": "all", "all": "any", "exact_sum": "exact_difference"}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add}


@attrs.frozen
class Mutant:
    """One changed module: where, what was changed, and its whole syntax tree."""

    line: int
    what: str
    tree: ast.Module


def mutants_of(source: str) -> Iterator[Mutant]:
    """Every mutant of a module. Docstrings, annotations, reprs and assertions are left as they are."""
    tree = ast.parse(source)
    for index, node in enumerate(_nodes(tree)):
        for variant in range(_variants(node)):
            changed = copy.deepcopy(tree)
            what = _mutate(list(_nodes(changed))[index], variant)
            if what:
                line = getattr(node, "lineno", 0)
                yield Mutant(line, f"{what}: {_text(node)}", ast.fix_missing_locations(changed))


def _nodes(tree: ast.Module) -> Iterator[ast.AST]:
    """Nodes that may be mutated, in a fixed order; bodies of functions only."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name != "__repr__":
            for statement in function.body:
                yield from _inside(statement)


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.FunctionDef | ast.Assert | ast.Raise | ast.JoinedStr):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "pattern"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _inside(child)


def _variants(node: ast.AST) -> int:
    if isinstance(node, ast.BoolOp):
        return 1 + len(node.values)
    return 1


def _mutate(node: ast.AST, variant: int) -> str:
    """Change a node in place; "" when there is nothing to change."""
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in _COMPARISONS:
            node.ops = [_COMPARISONS[type(operator)]()]
            return f"{type(operator).__name__} becomes {type(node.ops[0]).__name__}"
        case ast.BoolOp():
            if variant:
                del node.values[variant - 1]
                return f"part {variant} is left out"
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            return "and becomes or" if isinstance(node.op, ast.Or) else "or becomes and"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            node.op, node.operand = ast.Not(), ast.UnaryOp(op=ast.Not(), operand=operand)
            return "not is left out"
        case ast.Constant(value=bool(value)):
            node.value = not value
            return f"{value} becomes {not value}"
        case ast.Constant(value=int(number)):
            node.value = number + 1
            return f"{number} becomes {number + 1}"
        case ast.BinOp(op=operation) if type(operation) in _ARITHMETIC:
            node.op = _ARITHMETIC[type(operation)]()
            return f"{type(operation).__name__} becomes {type(node.op).__name__}"
        case ast.Call(func=ast.Name(id=name)) if name in _CALLS:
            node.func = ast.Name(id=_CALLS[name], ctx=ast.Load())
            return f"{name} becomes {_CALLS[name]}"
        case ast.IfExp():
            node.body, node.orelse = node.orelse, node.body
            return "the branches change places"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            node.value, node.targets = node.targets[0], node.targets  # assigns what is there already
            loaded = copy.deepcopy(node.targets[0])
            for child in ast.walk(loaded):
                if hasattr(child, "ctx"):
                    child.ctx = ast.Load()
            node.value = loaded
            return "the assignment is left out"
        case ast.Expr(value=ast.Call()):
            node.value = ast.Constant(value=None)
            return "the call is left out"
        case _:
            return ""


def _text(node: ast.AST) -> str:
    return ast.unparse(node).replace("\n", " ")[:100]
