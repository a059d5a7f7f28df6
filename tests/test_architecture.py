"""The shape of the house: who may import whom, what stays out of where, and how long things may get."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEVELS = (
    ("errors", "part"),
    ("models",),
    ("config", "events", "workspace"),
    ("data", "losses", "metrics", "checkpoints", "runfolder", "store"),
    ("inference", "export"),
    ("training", "sharing"),
    ("tasks", "ingest", "preflight", "previews", "report"),
    ("jobs", "serving", "cli", "__main__"),
)
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}
# Within a level: the words of level 0 build on each other, checkpoints hold what networks and normalisation are and are
# kept as the other files of a run,
# and the command line drives jobs as the dashboard does.
SIDEWAYS = {
    ("checkpoints", "seglib.runfolder.files"),
    ("config", "seglib.errors"),
    ("workspace", "seglib.errors"),
    ("checkpoints", "seglib.models"),
    ("checkpoints", "seglib.data.normalise"),
    ("__main__", "seglib.jobs"),
    ("__main__", "seglib.cli"),
}
CODE_LINES, PARAMETERS, MODULE_LINES = 50, 7, 400

SOURCES = sorted([*(ROOT / "seglib").rglob("*.py"), *(ROOT / "pages").rglob("*.py"), ROOT / "app.py"])
SEGLIB = [path for path in SOURCES if path.is_relative_to(ROOT / "seglib")]
PAGES = [path for path in SOURCES if path.is_relative_to(ROOT / "pages")]


@dataclass(frozen=True)
class Import:
    """One import of a module by a file."""

    path: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.module}"


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[Import]:
    """All imports of a file, those within functions too; not those that only a type checker follows."""
    tree = parsed(path)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (Import(path, node.lineno, alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            # `from seglib.data import checks` means the module seglib.data.checks.
            for alias in node.names:
                inner = ROOT / Path(*f"{node.module}.{alias.name}".split("."))
                module = f"{node.module}.{alias.name}" if inner.with_suffix(".py").exists() else node.module
                yield Import(path, node.lineno, str(module))


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "seglib").parts[0].removesuffix(".py")


def said(found) -> str:
    return "\n".join(str(one) for one in found)


def test_every_part_has_its_level():
    assert {part_of(path) for path in SEGLIB} - {"__init__"} == set(LEVEL)


def test_imports_only_point_down():
    wrong = []
    for path in SEGLIB:
        own = part_of(path)
        for one in imports(path):
            if not one.module.startswith("seglib.") or own == "__init__":
                continue
            other = one.module.split(".")[1]
            sideways = any(own == part and (one.module + ".").startswith(f"{to}.") for part, to in SIDEWAYS)
            if other != own and LEVEL[other] >= LEVEL[own] and not sideways:
                wrong.append(one)
    assert not wrong, said(wrong)


def test_the_loops_know_nothing_of_the_store():
    """Only the advice on settings reads a data set's row."""
    wrong = [
        one
        for path in SEGLIB
        if part_of(path) in ("training", "inference") and path.name != "advice.py"
        for one in imports(path)
        if one.module.startswith("seglib.store")
    ]
    assert not wrong, said(wrong)


def test_the_library_knows_no_streamlit_and_no_page():
    wrong = [one for path in SEGLIB for one in imports(path) if one.module.split(".")[0] in ("streamlit", "pages")]
    assert not wrong, said(wrong)


@pytest.mark.parametrize(
    "module",
    [
        "config",
        "store",
        "serving.routes",
        "serving.planes",
        "export",
        "jobs.manager",
        "jobs.submit",
        "ingest",
        "__main__",
    ],
)
def test_what_pages_and_the_server_start_with_loads_no_torch(module):
    code = f"import sys, seglib.{module}; print('torch' in sys.modules, 'streamlit' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_pages_do_not_compute():
    banned = {"torch", "numpy", "scipy", "skimage", "sqlite3", "sqlite_utils", "zarr", "tifffile"}
    wrong = [one for path in PAGES for one in imports(path) if one.module.split(".")[0] in banned]
    assert not wrong, said(wrong)


SQL = re.compile(r"\b(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+TABLE|PRAGMA)\b", re.S)


def test_all_sql_is_in_the_store():
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.value[:60]!r}"
        for path in SOURCES
        if not path.is_relative_to(ROOT / "seglib" / "store")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value)
    ]
    assert not wrong, said(wrong)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def code_lines(path: Path) -> set[int]:
    """Numbers of the lines that hold code: not blank, not only a comment."""
    source = path.read_text(encoding="utf-8")
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skipped:
            found |= set(range(token.start[0], token.end[0] + 1))
    return found


def docstring_lines(node: ast.AST) -> set[int]:
    body = getattr(node, "body", None)  # of a lambda or a conditional it is one expression
    first = body[0] if isinstance(body, list) and body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return set()


def test_functions_are_short():
    wrong = []
    for path in SOURCES:
        code = code_lines(path)
        for node in functions(path):
            within = set(range(node.lineno, (node.end_lineno or node.lineno) + 1)) & code
            for inner in ast.walk(node):
                within -= docstring_lines(inner)
            if len(within) > CODE_LINES:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {len(within)} lines of code")
    assert not wrong, said(wrong)


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    given = node.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def test_functions_take_few_parameters_and_say_which():
    wrong = []
    for path in SOURCES:
        for node in functions(path):
            where = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
            if len(parameters(node)) > PARAMETERS:
                wrong.append(f"{where} has {len(parameters(node))} parameters")
            if node.args.kwarg and not node.name.startswith("_"):
                wrong.append(f"{where} takes **{node.args.kwarg.arg}")
    assert not wrong, said(wrong)


def test_modules_are_short_and_named_after_what_they_are_about():
    long = [
        f"{path.relative_to(ROOT)} has {count} lines"
        for path in SOURCES
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > MODULE_LINES
    ]
    assert not long, said(long)
    vague = [path for path in SOURCES if path.stem in ("utils", "util", "common", "helpers", "helper", "misc")]
    assert not vague, said(vague)


def test_no_error_is_swallowed():
    wrong = []
    for path in SOURCES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ExceptHandler):
                nothing = all(
                    isinstance(one, ast.Pass)
                    or (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) and one.value.value is ...)
                    for one in node.body
                )
                if node.type is None or nothing:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not wrong, said(wrong)


def calls(path: Path) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def test_nothing_is_unpickled_evaluated_or_shown_as_html():
    wrong = []
    for path in SOURCES:
        for node, name in calls(path):
            where = f"{path.relative_to(ROOT)}:{node.lineno} {name}"
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            if name == "torch.load":
                safe = given.get("weights_only")
                if not (isinstance(safe, ast.Constant) and safe.value is True):
                    wrong.append(f"{where} without weights_only=True")
            if re.fullmatch(r"(pickle|cloudpickle|dill|joblib)\.loads?|eval|exec|os\.system|st\.html", name):
                wrong.append(where)
            if name.endswith(".load") and isinstance(given.get("allow_pickle"), ast.Constant):
                wrong.append(f"{where} with allow_pickle")
            if "unsafe_allow_html" in given or "shell" in given:
                wrong.append(where)
    assert not wrong, said(wrong)


def public_functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Public functions of a module and public methods of its public classes; a property is a datum by its name."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    for node in parsed(path).body:
        if isinstance(node, kinds) and not node.name.startswith("_"):
            yield node.name, node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                if isinstance(inner, kinds) and not inner.name.startswith("_"):
                    yield f"{node.name}.{inner.name}", inner


def test_every_public_function_says_what_comes_out():
    wrong = []
    for path in SEGLIB:
        for name, node in public_functions(path):
            decorators = {ast.unparse(one) for one in node.decorator_list}
            # A migration is named by its number; forward is torch's to explain.
            known = decorators & {"property", "migrations()"} or name.endswith(".forward")
            if not ast.get_docstring(node) and not known:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {name} has no docstring")
    assert not wrong, said(wrong)


def test_every_module_and_public_class_says_what_it_is():
    wrong = []
    for path in SOURCES:
        tree = parsed(path)
        if tree.body and not ast.get_docstring(tree):
            wrong.append(f"{path.relative_to(ROOT)} has no docstring")
        wrong += [
            f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has no docstring"
            for node in tree.body
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
        ]
    assert not wrong, said(wrong)


def test_nothing_here_is_vacuous():
    """Guards the tests above against looking at no file."""
    assert len(SEGLIB) > 40
    assert len(PAGES) > 8
    assert sum(len(list(functions(path))) for path in SOURCES) > 300
    assert any(one.module == "seglib.store.runs" for one in imports(ROOT / "seglib" / "jobs" / "manager.py"))
