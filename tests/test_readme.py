"""README's commands, pages, variables and files are those of the program."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from seglib.__main__ import _parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.S)
INLINE = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", README, flags=re.S))
LINES = [line for block in BLOCKS for line in block.strip().splitlines()]
COMMANDS = [line for line in (*LINES, *INLINE) if line.startswith("python -m seglib ")]


def test_the_readme_shows_commands():
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_line_is_understood(command):
    words = shlex.split(re.sub(r"\s>.*", "", command))[3:]
    if words == ["…"]:  # the family of commands, not one of them
        return
    assert _parser().parse_args(words).command


def test_every_command_there_is_is_shown():
    shown = {shlex.split(command)[3] for command in COMMANDS}
    subparsers = next(action for action in _parser()._actions if isinstance(action.choices, dict))
    # The demo is made on the first page, where the README sends its reader.
    assert set(subparsers.choices) - shown <= {"demo"}


def test_the_test_command_is_the_one_the_check_runs():
    (command,) = [line for line in LINES if "pytest" in line and "install" in line]
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_set_up_commands_name_what_is_there():
    (install,) = [line for line in LINES if "streamlit run" in line]
    steps = [shlex.split(step) for step in install.split("&&")]
    assert steps == [["pip", "install", "-r", "requirements.txt"], ["streamlit", "run", "app.py"]]
    for line in LINES:
        for name in re.findall(r"[\w/.-]+\.(?:txt|py)\b", line):
            assert (ROOT / name).is_file(), name
    assert "-r ../requirements.txt" in (ROOT / "tests" / "requirements.txt").read_text(encoding="utf-8").splitlines()


def test_every_page_named_exists_and_every_page_is_named():
    table = README.split("| page |")[1].split("\n\n")[0]
    named = set(re.findall(r"^\| ([A-Z]\w+) \|", table, re.M))
    tree = ast.parse((ROOT / "pages" / "shell.py").read_text(encoding="utf-8"))
    titles = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "st.Page":
            given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
            titles[given["title"]] = ast.literal_eval(node.args[0])
    assert named == set(titles)
    assert all((ROOT / "pages" / file).is_file() for file in titles.values())


def test_every_variable_named_is_read_and_every_variable_read_is_named():
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "seglib").rglob("*.py"))
    assert set(re.findall(r"\bSEGLIB_[A-Z_]+\b", README)) == set(re.findall(r"\"(SEGLIB_[A-Z_]+)\"", source))


def test_every_file_and_object_named_exists():
    for name in INLINE:
        if re.fullmatch(r"(seglib|tests|pages|app)[\w/.]*", name) and "/" in name:
            assert (ROOT / name).exists(), name
        dotted = re.fullmatch(r"(seglib(?:\.\w+)*)\.(\w+)", name)
        if dotted and not (ROOT / name).exists():
            module = ROOT / Path(*dotted[1].split("."))
            file = module.with_suffix(".py") if module.with_suffix(".py").exists() else module / "__init__.py"
            assert re.search(rf"^(def|class) {dotted[2]}\b|^{dotted[2]} =", file.read_text(encoding="utf-8"), re.M), (
                name
            )
