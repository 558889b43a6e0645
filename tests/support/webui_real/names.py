"""Which names of the WebUI our code uses, and what the WebUI's source says about a name. Nothing is imported."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

Definition = tuple[str, ast.AST]  # the module that a definition stands in, and the definition
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class Uses(ast.NodeVisitor):
    """Collects names of the WebUI in one of our files, each with the keyword arguments that are passed to it.

    A name is written from the module that it is imported from: `modules.shared.opts.add_option`. What the WebUI hands
    us is known by the variables that we keep it in (`objects`): `p.batch_size`. What our own module passes on of the
    WebUI has the WebUI's name (`door`, see `door_of`). An attribute that we set on anything else is set for somebody
    to find: `*.already_saved_as`.
    """

    _roots: set[str]
    _objects: Mapping[str, object]
    _setters: Mapping[str, tuple[str, int]]
    _door: Mapping[str, str]
    found: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._imported = {name: name for name in self._objects}
        self._constants: dict[str, list[str]] = {}
        self._tables: dict[str, list[str]] = {}  # keys of dictionaries and entries of tuples

    def _note(self, name: str, keywords: Iterable[str] = ()) -> None:
        self.found.setdefault(name, set()).update(keywords)

    def dotted(self, node: ast.AST) -> str | None:
        """The WebUI's name for an expression; None if it is none of the WebUI's."""
        if isinstance(node, ast.Name):
            return self._imported.get(node.id)
        if isinstance(node, (ast.Call, ast.Attribute)) and (passed_on := self._door.get(ast.unparse(node))):
            return passed_on
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
            named = str(getattr(node.args[0], "value", ""))
            return named if named.partition(".")[0] in self._roots else None
        if isinstance(node, ast.Attribute) and (owner := self.dotted(node.value)):
            is_plain_value = owner.split(".")[0] in self._objects and owner not in self._objects
            return None if is_plain_value else f"{owner}.{node.attr}"
        return None

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name.split(".")[0] in self._roots:
                self._imported[alias.asname or alias.name.split(".")[0]] = alias.name
                self._note(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if not node.level and node.module and node.module.split(".")[0] in self._roots:
            for alias in node.names:
                self._imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                self._note(f"{node.module}.{alias.name}")

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Methods without an underscore are hooks, public attributes are those that the WebUI looks for."""
        base = next(filter(None, map(self.dotted, node.bases)), None)
        for method in node.body if base else ():
            if isinstance(method, FUNCTIONS):
                if not method.name.startswith("_") and not method.decorator_list:
                    self._note(f"{base}.{method.name}")
                for target in _set_on_self(method):
                    if not target.startswith("_"):
                        self._note(f"{base}.{target}")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        name, value = getattr(node.targets[0], "id", ""), node.value
        if isinstance(value, ast.Dict):
            self._tables[name] = [key.value for key in value.keys if isinstance(key, ast.Constant)]
        elif isinstance(value, ast.Tuple):
            self._tables[name] = [entry.value for entry in value.elts if isinstance(entry, ast.Constant)]
        elif isinstance(value, ast.Call) and name and (passed_on := self._door.get(ast.unparse(value))):
            self._imported[name] = passed_on
        for target in node.targets:
            if isinstance(target, ast.Attribute) and not self.dotted(target) and not _is_self(target.value):
                self._note(f"*.{target.attr}")
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._keep_constants(node.target, node.iter)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self._keep_constants(node.target, node.iter)
        self.generic_visit(node)

    def _keep_constants(self, target: ast.AST, values: ast.AST) -> None:
        """`for name in ("prompt", "seed")`, also of rows or of a dictionary: what `getattr(p, name)` may ask for."""
        table = getattr(getattr(values, "func", None), "value", None)
        if isinstance(table, ast.Name) and table.id in self._tables and isinstance(target, ast.Tuple):
            self._constants[getattr(target.elts[0], "id", "")] = self._tables[table.id]
        if isinstance(values, ast.Name) and isinstance(target, ast.Name):
            self._constants[target.id] = self._tables.get(values.id, [])
        if not isinstance(values, (ast.Tuple, ast.List)):
            return
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        for place, name in enumerate(names):
            cells = [row.elts[place] if isinstance(target, ast.Tuple) else row for row in values.elts]
            if isinstance(name, ast.Name):
                unpacked = [getattr(cell.value, "id", "") for cell in cells if isinstance(cell, ast.Starred)]
                self._constants[name.id] = [entry for table in unpacked for entry in self._tables.get(table, [])]
                self._constants[name.id] += [cell.value for cell in cells if isinstance(cell, ast.Constant)]

    def visit_Call(self, node: ast.Call) -> None:
        if name := self.dotted(node.func):
            self._note(name, self._keywords(node))
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if called in ("getattr", "setattr", "hasattr") and (owner := self.dotted(node.args[0])):
            self._note_each(owner, node.args[1])
        elif called in self._setters:
            owner, place = self._setters[called]
            for asked in node.args[place : place + 1]:
                self._note_each(owner, asked)
        self.generic_visit(node)

    def _note_each(self, owner: str, asked: ast.AST) -> None:
        names = self._constants.get(getattr(asked, "id", ""), [])
        if isinstance(asked, ast.Constant):
            names = [asked.value] if asked.value else []
        for name in names:
            self._note(f"{owner}.{name}")

    def _keywords(self, node: ast.Call) -> Iterator[str]:
        for keyword in node.keywords:
            yield from [keyword.arg] if keyword.arg else self._tables.get(getattr(keyword.value, "id", ""), [])

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if (name := self.dotted(node)) and not node.attr.startswith("__"):
            self._note(name)
        self.generic_visit(node)


def door_of(module: str, tree: ast.Module, kinds: Iterable[str]) -> dict[str, str]:
    """What a module of ours passes on of the WebUI: `a1111.state()` is `modules.shared.state`.

    These are its plain aliases of the WebUI's names, and its functions that return one of the classes `kinds`.
    """
    imported = Uses({"modules"}, {}, {}, {})
    imported.visit(tree)
    found = {}
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Attribute):
            (name,) = _targets(node)
            found[f"{module}.{name}"] = imported.dotted(node.value)
        elif isinstance(node, ast.FunctionDef) and getattr(node.returns, "id", "") in kinds:
            found[f"{module}.{node.name}()"] = imported.dotted(node.body[-1].value)
    return {ours: theirs for ours, theirs in found.items() if theirs}


def members_of(tree: ast.Module, kind: str) -> list[str]:
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind)
    methods = [node.name for node in found.body if isinstance(node, FUNCTIONS)]
    return [*(name for node in found.body for name in _targets(node)), *methods]


def importers(paths: Iterable[Path], root: str) -> set[str]:
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                named = [node.module or ""]
            called = getattr(node, "func", None)
            if getattr(called, "id", getattr(called, "attr", "")) == "import_module":
                named = [str(getattr(argument, "value", "")) for argument in node.args]
            found |= {path.name for name in named if name.split(".")[0] == root}
    return found


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _set_on_self(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)) else ():
            for part in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(part, ast.Attribute) and _is_self(part.value):
                    yield part.attr


class Sources:
    """The Python sources of the WebUI and of the libraries in it, read for what a dotted name is bound to."""

    def __init__(self, folders: Iterable[Path], objects: Mapping[str, tuple[str, ...]]) -> None:
        self._folders = list(folders)
        self._objects = objects
        self._tree = cache(_parsed)

    def path(self, module: str) -> Path | None:
        for folder in self._folders:
            place = folder.joinpath(*module.split("."))
            for path in (place.with_suffix(".py"), place / "__init__.py"):
                if path.is_file():
                    return path
        return None

    def is_module(self, name: str) -> bool:
        return bool(self.path(name)) or any(folder.joinpath(*name.split(".")).is_dir() for folder in self._folders)

    def definitions(self, name: str) -> list[Definition]:
        """What stands behind a name, imports and plain aliases followed; nothing if it is gone."""
        if path := self.path(name):
            return [(name, self._tree(path))]
        owner, _, member = name.rpartition(".")
        owners = (
            [real for known in self._objects.get(owner, (owner,)) for real in self.definitions(known)] if owner else []
        )
        return [found for place in owners for found in self._members(place, member)]

    def _members(self, place: Definition, name: str) -> Iterator[Definition]:
        module, node = place
        if isinstance(node, ast.Module):
            yield from self._bound(module, node, name)
        elif isinstance(node, ast.ClassDef):
            yield from self._of_class(module, node, name)
        elif isinstance(node, ast.AnnAssign) and (kind := _annotated(node)):
            yield from (found for real in self._resolve(module, kind) for found in self._members(real, name))
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):  # an instance of a class, a namedtuple
            made = self._resolve(module, node.value.func)
            yield from (found for real in made for found in self._members(real, name))
            yield from (place for inner in ast.walk(node.value) if getattr(inner, "value", None) == name)

    def _bound(self, module: str, tree: ast.Module, name: str) -> Iterator[Definition]:
        for node in _statements(tree.body):
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and node.name == name:
                yield module, node
            elif name in _targets(node):
                alias = self._resolve(module, node.value) if isinstance(node.value, (ast.Attribute, ast.Name)) else []
                yield from alias or [(module, node)]
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        yield from self.definitions(self._full(module, node, alias))

    def _full(self, module: str, node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
        if isinstance(node, ast.Import):
            return alias.name
        package = module if (self.path(module) or Path()).name == "__init__.py" else module.rpartition(".")[0]
        for _ in range(node.level - 1):
            package = package.rpartition(".")[0]
        return ".".join(filter(None, [package if node.level else "", node.module or "", alias.name]))

    def _of_class(self, module: str, node: ast.ClassDef, name: str) -> Iterator[Definition]:
        own = [
            (module, inner) for inner in node.body if getattr(inner, "name", None) == name or name in _targets(inner)
        ]
        own += [(module, node) for _ in range(name in set(_set_on_self(node)) and not own)]
        yield from own
        for base in node.bases if not own else ():
            yield from (found for real in self._resolve(module, base) for found in self._members(real, name))

    def _resolve(self, module: str, node: ast.AST) -> list[Definition]:
        """What a dotted expression in a module means."""
        if isinstance(node, ast.Name):
            path = self.path(module)
            return list(self._bound(module, self._tree(path), node.id)) if path else []
        if isinstance(node, ast.Attribute):
            return [found for place in self._resolve(module, node.value) for found in self._members(place, node.attr)]
        return []

    def signature(self, place: Definition) -> str | None:
        """A function's parameters, or those of a class's constructor, without `self`; None of anything else."""
        _, node = place
        if isinstance(node, ast.ClassDef):
            made = [found for found in self._members(place, "__init__") if isinstance(found[1], FUNCTIONS)]
            return self.signature(made[0]) if made else None
        if not isinstance(node, FUNCTIONS):
            return None
        return f"({', '.join(_parameters(node.args))})"

    def option_names(self) -> set[str]:
        ((_, tree),) = self.definitions("modules.shared_options")
        tables = (node for node in ast.walk(tree) if isinstance(node, ast.Dict))
        return {k.value for table in tables for k in table.keys if isinstance(k, ast.Constant)}


def _parsed(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of somebody else's escape sequences
        return ast.parse(path.read_text(encoding="utf-8"))


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Those of a module, also under `if` and `try`, but not inside functions and classes."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody") if isinstance(node, (ast.If, ast.Try, ast.With)) else ():
            yield from _statements(getattr(node, part, []))
        for handler in getattr(node, "handlers", ()):
            yield from _statements(handler.body)


def _targets(node: ast.AST) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for name in targets if isinstance(name, ast.Name)]


def _annotated(node: ast.AnnAssign) -> ast.AST | None:
    kind = node.annotation
    return ast.parse(kind.value, mode="eval").body if isinstance(kind, ast.Constant) else kind


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    plain = [*arguments.posonlyargs, *arguments.args]
    required = len(plain) - len(arguments.defaults)
    named = [argument.arg + "=" * (place >= required) for place, argument in enumerate(plain)]
    yield from named[1:] if named[:1] in (["self"], ["cls"]) else named
    if arguments.vararg:
        yield f"*{arguments.vararg.arg}"
    elif arguments.kwonlyargs:
        yield "*"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield argument.arg + "=" * (default is not None)
    if arguments.kwarg:
        yield f"**{arguments.kwarg.arg}"


def named_in(shape: str) -> set[str]:
    return set(re.findall(r"\w+", shape))
