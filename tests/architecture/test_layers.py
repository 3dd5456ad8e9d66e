"""The layout as CONTRIBUTING.md states it: who imports whom, and what is loaded when."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "sdbench"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
# From the ground up; a module imports from its own row or from rows before it.
ROWS = (
    "records errors",
    "config plugins rundir prompts traces worked provenance arithmetic organism sources split_file",
    "models gguf engines grading problems stats audit",
    "conditions critics losses",
    "assembly",
    "train evaluate analyze report organism.pretrain",
    "cli bench_group critic_bench suite live dashboard eval_command critique_command critique_source"
    " curate",
)
ROW = {name: row for row, names in enumerate(ROWS) for name in names.split()}
KINDS = set(ROWS[3].split())
STAGES = set(ROWS[5].split())
HEAVY = {
    *("transformers", "vllm", "math_verify", "lm_eval", "datasets", "ray", "matplotlib"),
    *("accelerate", "scipy"),
}
TORCH_AT_THE_TOP = {"losses", "train", "analyze", "engines.hf", "organism.pretrain"}
TRANSFORMERS_AT_THE_TOP = {"engines.hf"}


@dataclass(frozen=True)
class Import:
    """One import statement's target; `lazy` if it stands inside a function or a type check."""

    target: str
    lazy: bool


def imports(source: str) -> Iterator[Import]:
    tree = ast.parse(source)
    lazy = _lazy_nodes(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node in lazy)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"line {node.lineno}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield Import(inner if inner in MODULES else node.module, node in lazy)


def _lazy_nodes(tree: ast.Module) -> set[ast.AST]:
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.update(ast.walk(node))
        elif isinstance(node, ast.If) and ast.unparse(node.test) in {
            "TYPE_CHECKING",
            "typing.TYPE_CHECKING",
        }:
            found.update(inner for top in node.body for inner in ast.walk(top))
    return found


def part(module: str) -> str | None:
    """The name in ROWS that a module belongs to; None for the package itself and for others'."""
    names = module.split(".")
    if names[0] != "sdbench":
        return None
    inner = (".".join(names[1:end]) for end in range(len(names), 1, -1))
    return next((name for name in inner if name in ROW), None)


def faults(module: str, source: str) -> list[str]:
    """Every import of a module that the layout does not allow."""
    return [
        f"{module} imports {one.target}: {fault}"
        for one in imports(source)
        if (fault := _between_parts(module, one.target) or _from_outside(module, one))
    ]


def _between_parts(module: str, target: str) -> str | None:
    own, other = part(module), part(target)
    if own is None or other is None or own == other:
        return None
    if ROW[other] > ROW[own]:
        return "it lies above"
    if {own, other} <= STAGES:
        return "stages meet in the run folder"
    if {own, other} <= KINDS and target != f"sdbench.{other}.base":
        return "of another kind only `base` is known"
    return None


def _from_outside(module: str, one: Import) -> str | None:
    package = one.target.split(".")[0]
    inner = module.removeprefix("sdbench.")
    allowed = {"torch": TORCH_AT_THE_TOP, "transformers": TRANSFORMERS_AT_THE_TOP}
    if one.lazy or package not in HEAVY | {"torch"}:
        return None
    fits = any(f"{inner}.".startswith(f"{name}.") for name in allowed.get(package, ()))
    return None if fits else "inside the function that uses it"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_place(module: str) -> None:
    assert module == "sdbench" or part(module)


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_layout(module: str) -> None:
    assert faults(module, MODULES[module].read_text()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sdbench.records", "from sdbench import config"),
        ("sdbench.stats", "def late():\n    from sdbench.train.loop import train"),
        ("sdbench.report.compare", "from sdbench.evaluate.score import score"),
        ("sdbench.organism.pretrain", "import sdbench.train.policy"),
        ("sdbench.organism.tokenizer", "from sdbench.organism import pretrain"),
        ("sdbench.conditions.critique", "from sdbench.critics import oracle"),
        ("sdbench.critics.oracle", "from sdbench import assembly"),
        ("sdbench.traces", "import torch"),
        ("sdbench.training", "import torch.nn.functional as F"),
        ("sdbench.models", "try:\n    from transformers import AutoModel\nexcept ImportError: ..."),
        ("sdbench.report.render", "from matplotlib import pyplot"),
        ("sdbench.cli", "if TYPE_CHECKING:\n    import torch\nelse:\n    import ray"),
    ],
)
def test_what_the_layout_forbids_is_seen(module: str, source: str) -> None:
    assert len(faults(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sdbench.conditions.critique", "from sdbench.critics.base import Critic"),
        ("sdbench.conditions.critique", "from sdbench.conditions.reference import Reference"),
        ("sdbench.analyze.advantage", "from sdbench.critics import oracle\nimport torch"),
        ("sdbench.models", "def load():\n    import torch\n    import transformers"),
        ("sdbench.engines.hf", "import torch\nfrom transformers import LogitsProcessor"),
        ("sdbench.cli", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
    ],
)
def test_what_the_layout_allows_passes(module: str, source: str) -> None:
    assert faults(module, source) == []


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["train", "--help"]])
def test_help_loads_no_heavy_module(arguments: list[str]) -> None:
    """Without arguments the module is only imported."""
    heavy = sorted(HEAVY | {"torch", "numpy", "pandas"})
    code = (
        "import sys; from sdbench.cli import app;"
        "sys.argv[1:] and app(sys.argv[1:], standalone_mode=False);"
        f"print(sorted(set({heavy!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
