"""The floors of the house: imports only ever point down, what is called pure stays pure, the core stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "cdnblock"

# A module stands on the floor of its longest listed prefix, and imports only from lower floors or its own folder.
FLOORS = {
    "cdnblock.errors": 0,
    "cdnblock.shown": 0,
    # The canonical form of a name is needed by the court's names and by the hosts of requests alike, so it stands
    # below the orders although its folder is matching's.
    "cdnblock.matching.names": 0,
    "cdnblock.orders": 1,
    "cdnblock.geo": 1,
    "cdnblock.matching": 2,
    "cdnblock.measures": 3,
    "cdnblock.audit": 4,
    # What hosts tell of their doings, and beside the gate what they tell of its verdicts.
    "cdnblock.noting": 4.5,
    "cdnblock.http_noting": 5.8,
    "cdnblock.sources": 5,
    "cdnblock.deciding": 3,
    "cdnblock.enforcer": 5.5,
    "cdnblock.http_gate": 5.7,
    "cdnblock.metrics": 5.8,
    "cdnblock.adapters": 6,
    "cdnblock.exporters": 6,
    "cdnblock.dashboard": 7,
    "cdnblock.reports": 6,
    # Above the exporters, which tell what each target can promise, and below all that asks running servers.
    "cdnblock.rpz_primary": 6.5,
    "cdnblock.verification": 6.5,
    "cdnblock.engines": 6.7,
    # Above the sandbox, whose second reading of the orders is its judge.
    "cdnblock.testing": 7.5,
    "cdnblock.sandbox": 7,
    "cdnblock.cli": 8,
    "cdnblock.__main__": 9,
    "cdnblock": 9,
}

PURE = ("cdnblock.orders", "cdnblock.geo", "cdnblock.matching", "cdnblock.measures")

# Modules through which the outside gets in: sockets, files, clocks, environment, logs, processes, randomness.
IMPURE = {
    "socket", "ssl", "os", "io", "pathlib", "time", "logging", "subprocess", "asyncio", "threading", "random",
    "secrets", "tempfile", "shutil", "urllib.request", "http.client", "http.server", "aiohttp", "watchfiles",
    "maxminddb", "importlib.resources",
}  # fmt: skip

# Siblings of one floor that must not know each other: a new one is one file.
STRANGERS = ("cdnblock.adapters", "cdnblock.exporters")


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["cdnblock", *path.relative_to(PACKAGE).with_suffix("").parts]
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            found += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def floor(module: str) -> int:
    prefix = module
    while prefix not in FLOORS:
        prefix = prefix.rpartition(".")[0]
    return FLOORS[prefix]


def folder(module: str) -> str:
    return ".".join(module.split(".")[:2])


MODULES = modules()


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[module for module, _ in MODULES])
def test_imports_point_down(module, path):
    """A module imports from lower floors, or from its own folder; adapters and exporters do not know each other."""
    for imported in imports(path):
        if not imported.startswith("cdnblock") or imported == module:
            continue
        if module != "cdnblock.__main__":
            assert imported != "cdnblock", f"{module} imports the package root"
        same_folder = folder(imported) == folder(module) and not module.startswith(STRANGERS)
        own_private = module.startswith(STRANGERS) and "._" in imported
        assert floor(imported) < floor(module) or same_folder or own_private or imported == folder(module), (
            f"{module} (floor {floor(module)}) imports {imported} (floor {floor(imported)})"
        )


@pytest.mark.parametrize(
    ("module", "path"),
    [m for m in MODULES if m[0].startswith(PURE)],
    ids=[m[0] for m in MODULES if m[0].startswith(PURE)],
)
def test_the_core_is_pure(module, path):
    """What is marked pure imports no socket, file, clock, environment or log."""
    for imported in imports(path):
        prefixes = {imported[:end] for end in [len(imported), *(i for i, c in enumerate(imported) if c == ".")]}
        assert not prefixes & IMPURE, f"{module} imports {imported}"


@pytest.mark.parametrize(
    ("module", "path"),
    [m for m in MODULES if m[0].startswith(PURE)],
    ids=[m[0] for m in MODULES if m[0].startswith(PURE)],
)
def test_the_clock_is_an_argument_in_the_core(module, path):
    """Nobody on the pure floors asks what time it is or opens a file: both come in as arguments."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert name not in {"now", "utcnow", "today", "open", "getenv", "print", "input"}, (
                f"{module}:{node.lineno}: {name}()"
            )


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_library_imports_without_any_extra():
    """`import cdnblock` and the whole core work where mitmproxy and dnspython are not installed."""
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {'mitmproxy', 'mitmproxy_rs', 'dns', 'h2', 'tornado', 'flask', 'cryptography'}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import cdnblock
for name in cdnblock.__all__:
    getattr(cdnblock, name)
import cdnblock.cli.root, cdnblock.cli.check, cdnblock.cli.decide, cdnblock.cli.explain, cdnblock.cli.orders
import cdnblock.measures.dns_refusal, cdnblock.measures.cache_disable, cdnblock.measures.proxy_termination
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_the_library_does_not_import_mitmproxy():
    """Where mitmproxy is installed, importing the library and its command line still leaves it alone."""
    done = run_python(
        "import sys, cdnblock, cdnblock.cli.root, cdnblock.cli.decide, cdnblock.cli.check\n"
        "print([m for m in sys.modules if m.partition('.')[0] in ('mitmproxy', 'dns', 'tornado')])"
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_no_folder_is_called_utils():
    """Folders tell the story: nothing is called utils, common, helpers, misc or manager."""
    banned = {"utils", "util", "common", "helpers", "misc", "manager", "managers"}
    assert not [module for module, _ in MODULES if banned & set(module.split("."))]
