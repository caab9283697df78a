"""The public face as a type checker sees it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
USAGE = ROOT / "tests" / "typing" / "public_api.py"


def test_public_use_is_well_typed():
    """A file of public use, right and wrong, passes mypy --strict; each wrong use is an error without its ignore."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(USAGE)],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_public_name_is_used_there():
    """No name of `__all__` is missing from that file, so none changes its type unseen."""
    import cdnblock

    tree = ast.parse(USAGE.read_text(encoding="utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert set(cdnblock.__all__) - used == {"NamesFile", "NotApplied", "Position", "Reason"}


def test_every_public_name_has_a_docstring():
    """Every public name says what it is."""
    import cdnblock

    assert [name for name in cdnblock.__all__ if not getattr(cdnblock, name).__doc__] == []
