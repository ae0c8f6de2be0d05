"""The mutants of a module: small faults, each in one place of its source.

No mutant lies in what is for people or for type checkers: docstrings, annotations, what is raised or printed, f-strings, strings with a
space, ``__repr__``, decorators, and arguments and names such as ``todo`` and ``note``.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from itertools import accumulate

_ORDER = {ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt)}
_SAME = {ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,)}
COMPARISONS = _ORDER | _SAME
_SUMS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult}
_BITS = {ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd}
ARITHMETIC = _SUMS | _BITS | {ast.Pow: ast.Mult}
_PAIRS = (("min", "max"), ("any", "all"), ("argmin", "argmax"), ("amin", "amax"), ("nanmin", "nanmax"), ("lower", "upper"))
NAMES = dict(_PAIRS) | {second: first for first, second in _PAIRS} | {"sorted": "list"}
WORDS = {"note", "todo", "message", "there", "wanted", "got", "where", "title", "question", "measured", "passes", "desc", "holder"}
SAID = {"print", "TypeVar", "Ignored", "unreadable_is_altered"}  # what they are given is for people
New = tuple[str, ast.expr | ast.stmt, ast.AST | str]  # the operator, the node, and what stands there instead


@dataclass(frozen=True)
class Mutant:
    """One fault: bytes ``start`` to ``stop`` of ``file`` become ``text``.

    ``line``: where it stands; ``lines``: first and last of its statement. ``scope``: the function, empty where the statement runs when the module is imported.
    ``key``: digits that stay as they are while file, scope and statement do.
    """

    file: str
    line: int
    lines: tuple[int, int]
    scope: str
    operator: str
    before: str
    after: str
    start: int
    stop: int
    text: str
    key: str = ""

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.stop :]


def mutants(file: str, source: bytes) -> list[Mutant]:
    """Every mutant of a module, in the order of its source."""
    finder = _Finder(file, source)
    finder.walk(ast.parse(source))
    seen: Counter[str] = Counter()
    found = []
    for one in finder.found:
        statement = b"".join(finder.rows[one.lines[0] - 1 : one.lines[1]]).decode()
        name = "\0".join([file, one.scope, statement, one.operator, one.before, one.after])
        seen[name] += 1
        found.append(replace(one, key=hashlib.sha256(f"{name}\0{seen[name]}".encode()).hexdigest()[:10]))
    return found


class _Finder:
    def __init__(self, file: str, source: bytes):
        self.file, self.rows = file, source.splitlines(keepends=True)
        self.starts = [0, *accumulate(map(len, self.rows))]
        self.found: list[Mutant] = []

    def walk(self, node: ast.AST, scope: str = "", name: str = "", lines: tuple[int, int] = (1, 1)) -> None:
        """``scope``: as of a mutant; ``name``: with classes."""
        if isinstance(node, ast.stmt):
            lines = node.lineno, _head(node)
        for operator, part, new in _changes(node):
            self._add(part, operator, new, scope, lines)
        for child in _inside(node):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and isinstance(child, ast.stmt):
                full = f"{name}.{node.name}".lstrip(".")
                self.walk(child, full if isinstance(node, ast.FunctionDef) else scope, full, lines)
            else:
                self.walk(child, scope, name, lines)

    def _add(self, node: ast.expr | ast.stmt, operator: str, new: ast.AST | str, scope: str, lines: tuple[int, int]) -> None:
        assert node.end_lineno is not None and node.end_col_offset is not None
        text = new if isinstance(new, str) else ast.unparse(new)
        put = f"({text})" if isinstance(node, ast.expr) and not isinstance(node, ast.Constant | ast.Name | ast.Attribute) else text
        start, stop = self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset
        self.found.append(Mutant(self.file, node.lineno, lines, scope, operator, ast.unparse(node), text, start, stop, put))


def _head(node: ast.stmt) -> int:
    """Last line of a statement, without the statements in it."""
    body = getattr(node, "body", None) or getattr(node, "cases", None)
    first = getattr(body[0], "lineno", node.lineno + 1) - 1 if body else node.end_lineno
    return max(node.lineno, first or 0)


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """The children in which mutants are looked for."""
    match node:
        case ast.Raise() | ast.JoinedStr() | ast.Import() | ast.ImportFrom() | ast.Assert() | ast.arg():
            return
        case ast.Expr(value=ast.Constant()):
            return
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            yield from node.orelse
        case ast.FunctionDef(name="__repr__" | "__str__"):
            return
        case ast.FunctionDef():
            yield from (node.args, *node.body)
        case ast.ClassDef():
            yield from node.body
        case ast.AnnAssign():
            yield from filter(None, [node.value])
        case ast.Assign(targets=[ast.Name(id=name)]) if name in WORDS:
            return
        case ast.Call(func=ast.Name(id=name)) if name in SAID:
            return
        case ast.Call():
            yield from (node.func, *node.args, *(one.value for one in node.keywords if one.arg not in WORDS))
        case _:
            yield from ast.iter_child_nodes(node)


def _changes(node: ast.AST) -> Iterator[New]:
    match node:
        case ast.stmt():
            yield from _of_statement(node)
        case ast.Compare():
            for place, kind in enumerate(node.ops):
                for other in COMPARISONS[type(kind)]:
                    yield "comparison", node, _with(node, ops=[*node.ops[:place], other(), *node.ops[place + 1 :]])
        case ast.BoolOp():
            yield "and, or", node, _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
            for place in range(len(node.values)):
                rest = [*node.values[:place], *node.values[place + 1 :]]
                yield "condition left out", node, rest[0] if len(rest) == 1 else _with(node, values=rest)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield "sign or not left out", node, node.operand
        case ast.BinOp() if type(node.op) in ARITHMETIC and not {type(one) for one in (node.left, node.right)} & {ast.JoinedStr}:
            yield "arithmetic", node, _with(node, op=ARITHMETIC[type(node.op)]())
        case ast.IfExp():
            yield "other branch", node, _with(node, test=ast.UnaryOp(ast.Not(), node.test))
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            for place, one in enumerate(node.generators):
                if one.ifs:
                    yield (
                        "filter left out",
                        node,
                        _with(node, generators=[*node.generators[:place], _with(one, ifs=[]), *node.generators[place + 1 :]]),
                    )
        case ast.Constant():
            yield from (("constant", node, ast.Constant(value)) for value in _other_values(node.value))
        case ast.Call(func=ast.Name(id=name)) if name in NAMES:
            yield "function", node, _with(node, func=ast.Name(NAMES[name]))
        case ast.Attribute(attr=name) if name in NAMES:
            yield "attribute", node, _with(node, attr=NAMES[name])


def _of_statement(node: ast.stmt) -> Iterator[New]:
    match node:
        case ast.Expr(value=ast.Call(func=ast.Name(id="print"))):
            return
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise(exc=ast.expr()) | ast.Continue() | ast.Break() | ast.Delete():
            yield "statement left out", node, "pass"
        case ast.Assign() if not any(isinstance(one, ast.Name | ast.Tuple) for one in node.targets):
            yield "statement left out", node, "pass"
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield "nothing returned", node, "return None"
        case ast.If(test=ast.expr() as test) | ast.While(test=test) if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp):
            yield "other branch", test, ast.UnaryOp(ast.Not(), test)
    if isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC:
        yield "arithmetic", node, _with(node, op=ARITHMETIC[type(node.op)]())


def _other_values(value: object) -> Iterator[object]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1)
    elif isinstance(value, float):
        yield from (value * 2, value / 2) if value else (1.0,)
    elif isinstance(value, str) and " " not in value:
        yield value + "_other"


def _with(node: ast.AST, **fields: object) -> ast.AST:
    new = copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new
