"""Checks that whatever reaches out of a process has failpoints, and that every failpoint is tried by a test.

`python -m tools.check_failpoints` reads sources alone and imports none of them. What a module without points has to say
for itself, and which test tries which point, stands in `tests/reliability/boundaries.py`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sskai.failpoints import LIFECYCLE
from tests.reliability import boundaries
from tests.reliability.boundaries import Outside

ROOT = Path(__file__).parents[1]
TABLE = "tests/reliability/boundaries.py"
PRODUCTION = ("sskai", "services")
# By these a process reaches another one. Of a library's errors alone nothing comes.
LIBRARIES = (
    "aiohttp",
    "aiokafka",
    "boto3",
    "botocore",
    "grpc",
    "http.client",
    "httpx2",
    "kubernetes",
    "multiprocessing",
    "opentelemetry.exporter",
    "psycopg",
    "requests",
    "smtplib",
    "socket",
    "sqlalchemy.create_engine",
    "sqlalchemy.ext.asyncio.create_async_engine",
    "subprocess",
    "torch.distributed",
    "urllib.request",
)
ERRORS = re.compile(r"\.(errors|exceptions)(\.|$)")
ASYNCIO = {
    "create_subprocess_exec",
    "create_subprocess_shell",
    "open_connection",
    "open_unix_connection",
    "start_server",
    "start_unix_server",
}
ARMING = {"armed", "struck"}  # faults.armed, tests/reliability/strikes.py
PAST_THE_POINTS = "s3"  # `objects.s3`: past those of `Objects`
# Without one of these words a source need not be parsed.
WORDS = re.compile(
    rf"boundary\(|\.{PAST_THE_POINTS}\b|\b({'|'.join([*ASYNCIO, *(name.split('.')[-1] for name in LIBRARIES)])})\b"
)


class Module:
    """One source file, by its path from the root."""

    def __init__(self, root: Path, path: Path) -> None:
        self.name = path.relative_to(root).as_posix()
        self.tree = ast.parse(path.read_text(), self.name)

    @cached_property
    def running(self) -> list[ast.AST]:
        """All nodes but those for the type checker alone."""
        found: list[ast.AST] = []
        waiting: list[ast.AST] = [self.tree]
        while waiting:
            node = waiting.pop()
            found.append(node)
            if isinstance(node, ast.If) and _last_name(node.test) == "TYPE_CHECKING":
                waiting += node.orelse
            else:
                waiting += ast.iter_child_nodes(node)
        return found

    @cached_property
    def imported(self) -> dict[str, str]:
        """Where each name of an import comes from: `Config` from `botocore.config`."""
        found: dict[str, str] = {}
        for node in self.running:
            if isinstance(node, ast.Import):
                found |= {one.asname or one.name: one.name for one in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
        return found

    @cached_property
    def reaches_by(self) -> list[str]:
        """What it uses that leaves the process."""
        found = set(filter(_is_library, self.imported.values()))
        for node in self.running:
            if isinstance(node, ast.Attribute):
                if isinstance(node.value, ast.Name) and node.value.id == "asyncio" and node.attr in ASYNCIO:
                    found.add(f"asyncio.{node.attr}")
                elif node.attr == PAST_THE_POINTS and not (
                    isinstance(node.value, ast.Name) and node.value.id == "self"
                ):
                    found.add(f".{node.attr}")
        return sorted(found)

    @property
    def adapters(self) -> Iterator[tuple[str, str | None, ast.ClassDef]]:
        """Each class with a boundary: the boundary's name, the protocol that bounds its methods, the class."""
        for node in self.tree.body:
            for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else ():
                if isinstance(decorator, ast.Call) and _last_name(decorator.func) == "boundary":
                    name = decorator.args[0]
                    assert isinstance(node, ast.ClassDef)
                    assert isinstance(name, ast.Constant), f"{self.name}: a boundary's name is a literal"
                    of = next((_last_name(each.value) for each in decorator.keywords if each.arg == "of"), None)
                    yield str(name.value), of, node


@dataclass(frozen=True)
class Tree:
    """The sources below `root`, of production and of the tests that a table names."""

    root: Path

    @cached_property
    def modules(self) -> list[Module]:
        paths = (path for folder in PRODUCTION for path in sorted((self.root / folder).rglob("*.py")))
        wanted = (path for path in paths if "migrations" not in path.parts and WORDS.search(path.read_text()))
        return [Module(self.root, path) for path in wanted]

    def points(self) -> dict[str, str]:
        """Every point, as `failpoints.points` would name it, and the module that it is of."""
        found: dict[str, str] = {}
        for module in self.modules:
            for name, protocol, adapter in module.adapters:
                wanted = self._methods_of(module, protocol) if protocol else None
                for method in _methods(adapter):
                    if wanted is not None and method.name not in wanted:
                        continue
                    is_context = "asynccontextmanager" in map(_last_name, method.decorator_list)
                    ends = (".begin", ".commit") if is_context else ("",)
                    found |= {f"{name}.{method.name}{end}": module.name for end in ends}
        return found

    def test(self, node_id: str) -> tuple[str, set[str]] | None:
        """The source of a test, with whatever of its module it uses, and the names in it; None: there is none."""
        file, _, name = node_id.partition("::")
        path = self.root / file
        if not path.is_file():
            return None
        text = path.read_text()
        tree = ast.parse(text, file)
        own: dict[str, ast.AST] = {}
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                own[node.name] = node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                own |= {target.id: node for target in targets if isinstance(target, ast.Name)}
        if not name.startswith("test_") or not isinstance(own.get(name), ast.FunctionDef | ast.AsyncFunctionDef):
            return None
        used: set[str] = set()
        sources, waiting = [], [name]
        while waiting:
            found = own.pop(waiting.pop(), None)
            if found is None:
                continue
            sources.append(_source(text, found))
            names = _names(found)
            used |= names
            waiting += sorted(names)
        return "\n".join(sources), used

    def _methods_of(self, module: Module, protocol: str) -> set[str]:
        where, _, name = module.imported[protocol].rpartition(".")
        folder = self.root / where.replace(".", "/")
        path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        classes = (node for node in Module(self.root, path).tree.body if isinstance(node, ast.ClassDef))
        return {method.name for one in classes if one.name == name for method in _methods(one)}


def problems(
    tree: Tree, outside: Mapping[str, Outside], crossed: Iterable[str], tried: Mapping[str, Iterable[str]]
) -> list[str]:
    """What is wrong, in words. `outside`: modules, or folders that end with a slash, that need no point; `crossed`: the
    points of the matrix' lives; `tried`: the points of each test."""
    points = tree.points()
    return [
        *_of_modules(tree, outside),
        *_of_points(points, set(crossed), tried),
        *_of_tests(tree, outside, points, tried),
    ]


def _of_modules(tree: Tree, outside: Mapping[str, Outside]) -> Iterator[str]:
    needed = set()
    for module in tree.modules:
        if not module.reaches_by or any(module.adapters):
            continue
        folders = (name for name in outside if name.endswith("/") and module.name.startswith(name))
        entry = module.name if module.name in outside else next(folders, None)
        if entry is None:
            yield (
                f"{module.name} reaches out of the process ({', '.join(module.reaches_by)}) and has no failpoint: give "
                f"its class `@failpoints.boundary(name, error)`, or say in {TABLE} why it needs none"
            )
        else:
            needed.add(entry)
    for name in outside.keys() - needed:
        yield f"{TABLE}: OUTSIDE[{name!r}] is not needed: it has points, or reaches nowhere, or is gone"


def _of_points(points: Mapping[str, str], crossed: set[str], tried: Mapping[str, Iterable[str]]) -> Iterator[str]:
    in_tests = {point for each in tried.values() for point in each}
    for point in sorted(points.keys() - crossed - in_tests):
        yield (
            f"{point} ({points[point]}) is tried by no test: let a life of the crash matrix cross it, or write a test "
            f"that arms it and name that in TRIED of {TABLE}"
        )
    for point in sorted((crossed | in_tests) - points.keys()):
        yield f"{TABLE} names {point}, which no boundary has"


def _of_tests(
    tree: Tree, outside: Mapping[str, Outside], points: Mapping[str, str], tried: Mapping[str, Iterable[str]]
) -> Iterator[str]:
    for name, entry in outside.items():
        if not entry.why.strip() or "\n" in entry.why:
            yield f"{TABLE}: OUTSIDE[{name!r}] needs a reason of one line"
        if entry.test and tree.test(entry.test) is None:
            yield f"{TABLE}: OUTSIDE[{name!r}] names {entry.test}, which is not there"
    for node_id, its_points in tried.items():
        found = tree.test(node_id)
        if found is None:
            yield f"{TABLE}: TRIED names {node_id}, which is not there"
            continue
        source, names = found
        unarmed = [point for point in its_points if not re.search(rf"(?<![\w.]){re.escape(point)}(?![\w.])", source)]
        if not names & ARMING:
            unarmed = list(its_points)
        for point in unarmed:
            if point in points:
                yield f"{node_id} does not arm {point}"


def _is_library(name: str) -> bool:
    return any(f"{name}.".startswith(f"{one}.") for one in LIBRARIES) and not ERRORS.search(name)


def _methods(adapter: ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Those that are points, as `failpoints.boundary` chooses them."""
    for node in adapter.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        decorators = set(map(_last_name, node.decorator_list))
        if node.name.startswith("_") or node.name in LIFECYCLE:
            continue
        if not decorators & {"stays", "property", "cached_property", "classmethod", "staticmethod"}:
            yield node


def _last_name(node: ast.AST) -> str:
    """`boundary` of `failpoints.boundary`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _names(node: ast.AST) -> set[str]:
    """Of everything it uses: variables, attributes, and the fixtures that it takes as arguments."""
    found = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    found |= {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
    return found | {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}


def _source(text: str, node: ast.AST) -> str:
    decorators = getattr(node, "decorator_list", [])
    return "\n".join(ast.get_source_segment(text, each) or "" for each in (*decorators, node))


def main() -> int:
    found = problems(Tree(ROOT), boundaries.OUTSIDE, boundaries.CROSSED, boundaries.TRIED)
    for problem in found:
        print(f"failpoints: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
