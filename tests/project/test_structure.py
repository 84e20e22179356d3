"""Who may import whom, that importing does nothing, and that files and functions stay small."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.repository import ROOT

PACKAGES = ("shared", "api", "worker")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FORBIDDEN = {
    "shared": {"api", "worker", "torch", "transformers", "faiss", "fastapi", "uvicorn"},
    "api": {"worker", "torch", "transformers"},
    "worker": {"api", "faiss", "fastapi", "uvicorn"},
}
Function = ast.FunctionDef | ast.AsyncFunctionDef

WATCHED_IMPORT = """
import importlib, json, os, sys, threading

acts = []

def watch(event, arguments):
    if event in {"socket.connect", "socket.bind", "socket.sendto", "subprocess.Popen", "os.system", "os.fork",
                 "os.posix_spawn", "os.mkdir", "os.remove", "os.rename", "os.putenv"}:
        acts.append(f"{event} {arguments}")
    elif event == "_thread.start_new_thread":
        acts.append(event)
    elif event == "open":
        path, mode, flags = arguments
        if set(mode or "") & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            if path not in ("/dev/null", os.devnull):
                acts.append(f"open {path!r} for writing")

exec(sys.argv[1], {})  # imports of libraries: what these do is theirs, and is done before the watch begins
threads = threading.active_count()
sys.addaudithook(watch)
for name in json.loads(sys.argv[2]):
    importlib.import_module(name)
if threading.active_count() != threads:
    acts.append("a thread is running")
print(json.dumps({"acts": acts, "loaded": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def name_of(path: Path) -> str:
    """The module's dotted name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), path)


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in it, in functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield str(node.module)


def lines_of(function: ast.stmt) -> int:
    """A function's length, without the functions inside it: those are measured on their own."""
    inner = [node for node in ast.walk(function) if isinstance(node, Function) and node is not function]
    return len(extent(function).difference(*map(extent, inner)))


def extent(node: ast.stmt) -> set[int]:
    assert node.end_lineno is not None
    return set(range(node.lineno, node.end_lineno + 1))


def library_imports(package: str) -> str:
    """The import statements for modules of others at the top of the package's files."""
    statements = {
        ast.unparse(node)
        for path in FILES
        if name_of(path).partition(".")[0] in {package, "shared"}
        for node in tree_of(path).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        and not {name.partition(".")[0] for name in imported(node)} & set(PACKAGES)
    }
    return "\n".join(sorted(statements))


def import_watched(package: str, directory: Path) -> dict[str, Any]:
    """Import every module of a package in a process with an empty environment and an empty working directory."""
    modules = [name_of(path) for path in FILES if name_of(path).partition(".")[0] == package]
    finished = subprocess.run(
        [sys.executable, "-I", "-B", "-c", WATCHED_IMPORT, library_imports(package), json.dumps(modules)],
        env={},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    lines = finished.stdout.splitlines()
    assert len(lines) == 1, "importing printed something"
    report: dict[str, Any] = json.loads(lines[0])
    return report


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_follow_the_dependency_direction(path: Path) -> None:
    package = name_of(path).partition(".")[0]
    assert not {name.partition(".")[0] for name in imported(tree_of(path))} & FORBIDDEN[package]


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_any_module_does_nothing(package: str, tmp_path: Path) -> None:
    report = import_watched(package, tmp_path)
    assert report["acts"] == []
    assert not set(report["loaded"]) & FORBIDDEN[package]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_from_outside_is_run_as_code(path: Path) -> None:
    tree = tree_of(path)
    assert not {name.partition(".")[0] for name in imported(tree)} & {
        "pickle",
        "cloudpickle",
        "dill",
        "marshal",
        "shelve",
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            assert not (isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"})
            for keyword in node.keywords:
                if keyword.arg in {"trust_remote_code", "allow_pickle", "shell"}:
                    assert isinstance(keyword.value, ast.Constant) and keyword.value.value is False


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_says_what_it_is_for_and_fits_a_few_screens(path: Path) -> None:
    tree = tree_of(path)
    assert ast.get_docstring(tree)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    for node in ast.walk(tree):
        if isinstance(node, Function):
            assert lines_of(node) <= 60, node.name
