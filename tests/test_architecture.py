"""The directions of imports hold, every rule about them can fail, and the daemon stays small."""

from __future__ import annotations

import ast
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("qkt_p2p", "node/qkt_node", "bench/qkt_bench")
CONTRACTS = {
    contract["id"]: contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}

VIOLATIONS = {
    "direction": ("qkt_p2p/identity", "qkt_p2p.store.records"),
    "asking": ("qkt_p2p/asking", "qkt_p2p.asking.probing"),
    "library": ("qkt_p2p/models", "qkt_node"),
    "bench": ("node/qkt_node/worker", "qkt_bench"),
    "commands": ("node/qkt_node/control", "qkt_node.cli"),
    "grpc": ("qkt_p2p/discovery", "grpc"),
    "messages": ("qkt_p2p/masking", "qkt_p2p.pb.peer_pb2"),
    "cryptography": ("qkt_p2p/transport", "cryptography"),
    "multicast": ("qkt_p2p/discovery", "zeroconf"),
    "database": ("qkt_p2p/synthesis", "sqlite3"),
    "graphs": ("qkt_p2p/distillation", "onnxruntime"),
    "torch": ("qkt_p2p/store", "qkt_p2p.models.classifier"),
    "pickle": ("qkt_p2p/datasets", "pickle"),
}
"""For each contract a folder and an import that breaks it there; torch is reached by way of a model."""

DAEMON = (
    "qkt_node.cli",
    "qkt_node.config",
    "qkt_node.control",
    "qkt_node.daemon",
    "qkt_node.home",
    "qkt_node.report",
    "qkt_node.worker.client",
    "qkt_p2p.discovery",
    "qkt_p2p.identity",
    "qkt_p2p.outcome",
    "qkt_p2p.privacy",
    "qkt_p2p.store",
    "qkt_p2p.student",
    "qkt_p2p.transport",
    "qkt_p2p.wire.messages",
)
HEAVY = ("matplotlib", "numpy", "onnx", "onnxruntime", "safetensors", "sklearn", "torch")


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(root), str(root / "node"), str(root / "bench")))
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def copy_sources(root: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", root)
    for source in SOURCES:
        shutil.copytree(ROOT / source, root / source, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture(scope="module")
def report_of_violations(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the checker says of a copy that breaks every contract once."""
    root = copy_sources(tmp_path_factory.mktemp("violations"))
    for name, (folder, imported) in VIOLATIONS.items():
        (root / folder / f"planted_{name}.py").write_text(f"import {imported}\n")
    result = lint_imports(root)
    assert result.returncode == 1
    return result.stdout


def modules() -> list[Path]:
    return [
        path
        for source in SOURCES
        for path in sorted((ROOT / source).rglob("*.py"))
        if "pb" not in path.relative_to(ROOT).parts
    ]


def test_imports_keep_every_contract() -> None:
    """The tree as it stands breaks none of the contracts of pyproject.toml."""
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout


def test_every_contract_has_a_violation() -> None:
    """A contract added to pyproject.toml needs a proof that it can fail."""
    assert VIOLATIONS.keys() == CONTRACTS.keys()


@pytest.mark.parametrize("contract", sorted(VIOLATIONS))
def test_contract_can_fail(report_of_violations: str, contract: str) -> None:
    """A planted import breaks the contract, and the checker names its place."""
    package = VIOLATIONS[contract][0].removeprefix("node/").replace("/", ".")
    assert f"{CONTRACTS[contract]} BROKEN" in report_of_violations
    assert f"{package}.planted_{contract}" in report_of_violations


def test_new_part_of_the_library_needs_a_place(tmp_path: Path) -> None:
    """A module that no layer names is reported."""
    root = copy_sources(tmp_path)
    (root / "qkt_p2p/utilities.py").write_text('"""Everything else."""\n')
    result = lint_imports(root)
    assert result.returncode == 1
    assert "qkt_p2p.utilities" in result.stdout


@pytest.mark.parametrize("name", DAEMON)
def test_daemon_loads_nothing_heavy(name: str) -> None:
    """Importing any part of the daemon's process loads neither torch nor numpy, which take 40 to 300 MB."""
    script = f"""
import importlib, pkgutil, sys
module = importlib.import_module({name!r})
for found in pkgutil.walk_packages(getattr(module, "__path__", []), {name!r} + "."):
    if not found.name.startswith("qkt_node.report."):
        importlib.import_module(found.name)
print(*sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_logging_is_configured_in_one_file() -> None:
    """Only one module calls structlog.configure, so there is one answer to where logs go."""
    callers = [
        path.relative_to(ROOT).as_posix()
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in {"configure", "configure_once"}
        and isinstance(node.value, ast.Name)
        and node.value.id == "structlog"
    ]
    assert callers == ["node/qkt_node/log.py"]


def test_assert_only_narrows_types() -> None:
    """Under `python -O` asserts vanish, so none may check input: each tells the type checker a type."""
    others = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert) and not narrows(node.test)
    ]
    assert others == []


def narrows(test: ast.expr) -> bool:
    """Whether a condition is `x is not None`, `isinstance(x, T)`, or several of these."""
    if isinstance(test, ast.BoolOp):
        return isinstance(test.op, ast.And) and all(narrows(part) for part in test.values)
    if isinstance(test, ast.Call):
        return isinstance(test.func, ast.Name) and test.func.id == "isinstance"
    return (
        isinstance(test, ast.Compare)
        and isinstance(test.ops[0], ast.IsNot)
        and isinstance(test.comparators[0], ast.Constant)
        and test.comparators[0].value is None
    )


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("x is not None", True),
        ("isinstance(x, int) and y is not None", True),
        ("x > 0", False),
        ("x is not None or x > 0", False),
        ("x is None", False),
        ("check(x)", False),
    ],
)
def test_narrowing_is_recognised(condition: str, expected: bool) -> None:
    """The rule about asserts tells narrowing from checking."""
    assert narrows(ast.parse(condition, mode="eval").body) is expected


def map_of(docstring: str) -> set[str]:
    """The names in the first column of the blocks of a docstring that are tables."""
    row = re.compile(r"(\w+(?:\.\w+)?(?:, \w+)*) +\S")
    blocks = [block.splitlines() for block in docstring.split("\n\n")]
    tables = [lines for lines in blocks if any(re.match(r"\w[\w., ]*  +\S", line) for line in lines)]
    rows = [found[1] for lines in tables for line in lines if (found := row.match(line))]
    return {name.removesuffix(".py") for names in rows for name in names.split(", ")}


def test_packages_say_what_they_hold() -> None:
    """Every package's docstring is a map: it names each of its modules, and nothing that is not there."""
    wrong = {}
    for source in SOURCES:
        for package in sorted((ROOT / source).rglob("__init__.py")):
            if "pb" in package.relative_to(ROOT).parts:
                continue
            named = map_of(ast.get_docstring(ast.parse(package.read_text())) or "")
            inside = {found.name for found in pkgutil.iter_modules([str(package.parent)])} - {"__main__"}
            gone = {name for name in named - inside if not (package.parent / name).exists()}
            if differing := (inside - named) | gone:
                wrong[str(package.relative_to(ROOT))] = differing
    assert wrong == {}
