"""Conventions a machine can see: docstrings, names, plugins, and words that must not stand here."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbench import plugins
from sdbench.config import Frozen

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "sdbench").rglob("*.py"))
PLUGINS = [(kind, name) for kind in plugins.Kind for name in plugins.names(kind)]
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
# In pieces, so that this file does not hold what it looks for.
MACHINE_PATHS = ["/ho" + "me/", "/ro" + "ot/", "/wo" + "rk/", "/Us" + "ers/", "/op" + "t/"]
REGISTRIES = ["py" + "pi.org", "python" + "hosted.org", "download.py" + "torch.org"]
FORBIDDEN = re.compile("|".join(re.escape(word) for word in MACHINE_PATHS + REGISTRIES))

every_source = pytest.mark.parametrize(
    "path", SOURCES, ids=lambda path: str(path.relative_to(ROOT))
)


def without_docstring(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    """The public classes, functions and methods in a module or class that have no docstring."""
    for inner in node.body:
        if not isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if inner.name.startswith("_"):
            continue
        if not ast.get_docstring(inner):
            yield inner.name
        if isinstance(inner, ast.ClassDef):
            yield from (f"{inner.name}.{name}" for name in without_docstring(inner))


@every_source
def test_public_names_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has none"
    assert list(without_docstring(tree)) == []


def test_a_missing_docstring_is_seen() -> None:
    source = 'class A:\n  "A."\n  def b(self): ...\n  def _c(self): ...\nasync def d(): ...'
    assert list(without_docstring(ast.parse(source))) == ["A.b", "d"]


@every_source
def test_names_say_what_a_module_is(path: Path) -> None:
    names = path.relative_to(ROOT).with_suffix("").parts
    assert VAGUE.isdisjoint(word for name in names for word in name.split("_"))


@every_source
def test_every_zip_says_whether_it_is_strict(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "zip":
            assert any(keyword.arg == "strict" for keyword in node.keywords), node.lineno


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_plugins_can_be_configured_built_and_listed(kind: plugins.Kind, name: str) -> None:
    """The docstring's first line is what `sdbench list` shows, so it stands alone."""
    module = plugins.load(kind, name)
    assert issubclass(module.Config, Frozen)
    assert callable(module.build)
    assert 20 <= len(plugins.summary(kind, name)) <= 105
    assert (module.__doc__ or "").strip().splitlines()[1:2] in ([], [""])


def test_there_are_plugins_of_every_kind() -> None:
    assert {kind for kind, _ in PLUGINS} == set(plugins.Kind)


def test_the_project_speaks_of_itself_alone() -> None:
    """No path of a machine and no host of a package registry in any text file that is tracked."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a checkout")
    found = {}
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        text = path.read_text(errors="ignore") if path.is_file() else ""
        if match := FORBIDDEN.search(text):
            found[name] = match.group()
    assert found == {}


@pytest.mark.parametrize("word", MACHINE_PATHS + REGISTRIES)
def test_forbidden_words_are_seen(word: str) -> None:
    assert FORBIDDEN.search(f"see https://{word.strip('/')} or {word}somewhere")
