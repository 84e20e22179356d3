"""The house: which room may import which, that importing does nothing, and that files and functions stay small."""

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
FLOORS = ("api.http", "api.serving", "api.retrieval", "api.corpus", "api.embedding", "api.search", "api.telemetry")
"""Rooms of the API from the top down: data flows downwards, so a room imports itself and those below it."""
ROOMS = {
    **{room: FLOORS[i:] for i, room in enumerate(FLOORS)},
    "api.commands": ("api.commands", *FLOORS[1:]),
    "api": ("api",),
    "worker.engine": ("worker.engine",),
    "worker": ("worker",),
    "shared.redis": ("shared.redis", "shared.model"),
    "shared.model": ("shared.model",),
    "shared.demo": ("shared.demo",),
    "shared.commands": ("shared",),
    "shared": (),
}
"""By room, the rooms whose modules it may import. Those of the package `shared` itself are open to all."""
OPEN_TO_ROLES = ("shared.redis", "shared.model", "shared.demo")
LIBRARIES_NEVER = {
    "api.search": {"fastapi", "starlette", "uvicorn", "orjson", "msgspec", "redis", "arq"},
    "api.retrieval": {"fastapi", "starlette", "uvicorn", "orjson", "msgspec"},
    "api.corpus": {"fastapi", "starlette", "uvicorn"},
    "api.embedding": {"fastapi", "starlette", "uvicorn"},
    "api.telemetry": {"fastapi", "starlette", "uvicorn"},
    "shared.model": {"redis", "arq"},
}
"""Libraries that would bring a room what it must not know: HTTP, the wire format, Redis."""
FRONT_DOOR = ("api.http.connection", "api.http.api_key")
"""What a connection meets first. It loads no FAISS, so that a process answers before the index is there."""
MOST_FUNCTION_LINES = 50
MOST_CLASS_LINES = 200
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


def room_of(module: str) -> str:
    """The innermost room that a module is in; a package's own files are in the room of its name."""
    return next(room for room in sorted(ROOMS, key=len, reverse=True) if f"{module}.".startswith(f"{room}."))


def may_import(room: str, module: str) -> bool:
    """True if a module of ours may be imported in that room."""
    target = room_of(module)
    role = room.partition(".")[0]
    if target == "shared" or (role != "shared" and target in OPEN_TO_ROLES):
        return True
    allowed = ROOMS[room] or (room,)
    return any(f"{target}.".startswith(f"{name}.") for name in allowed)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_rooms_import_downwards_only(path: Path) -> None:
    room = room_of(name_of(path))
    ours = {name for name in imported(tree_of(path)) if name.partition(".")[0] in PACKAGES}
    wrong = sorted(name for name in ours if not may_import(room, name))
    assert not wrong, f"{path.relative_to(ROOT)} is in the room {room}, which must not import {', '.join(wrong)}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_rooms_do_not_know_what_is_above_them(path: Path) -> None:
    room = room_of(name_of(path))
    libraries = {name.partition(".")[0] for name in imported(tree_of(path))}
    wrong = sorted(libraries & LIBRARIES_NEVER.get(room, set()))
    assert not wrong, f"{path.relative_to(ROOT)} is in the room {room}, which must not import {', '.join(wrong)}"


def test_the_front_door_loads_no_index() -> None:
    program = f"import sys, {', '.join(FRONT_DOOR)}; print(sorted(m for m in sys.modules if m == 'faiss'))"
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert finished.stdout.strip() == "[]", f"{' or '.join(FRONT_DOOR)} loads FAISS {finished.stderr}"


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=name_of)
def test_tests_do_not_import_benchmarks(path: Path) -> None:
    wrong = sorted(name for name in imported(tree_of(path)) if name.partition(".")[0] == "benchmarks")
    assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(wrong)}; what both need belongs in tests/support"


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
            assert lines_of(node) <= MOST_FUNCTION_LINES, f"{path.relative_to(ROOT)}: function {node.name} is too long"
        if isinstance(node, ast.ClassDef):
            assert len(extent(node)) <= MOST_CLASS_LINES, f"{path.relative_to(ROOT)}: class {node.name} is too long"
