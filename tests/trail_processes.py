"""Code that runs in a process of its own, on disks of its own: what becomes of a trail when they fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PRELUDE = f"""
import json, os, subprocess, sys
sys.path.insert(0, {str(TESTS)!r})
from pathlib import Path
from trails import *
from cdnblock.audit.reading import records
from cdnblock.audit.settings import Settings
from cdnblock.audit.verifying import verify
folder = Path(sys.argv[1])
tally = Tally()
"""
RESULTS = """
found = verify(folder)
print(json.dumps({
    "records": list(records(folder)), "ok": found.ok, "findings": list(map(str, found.findings)), "seen": seen,
}))
"""


def run(code, folder, *, mounts=False):
    """Run code in a process of its own, which may mount what it likes: nobody else sees it."""
    unshare = ["unshare", "--mount"] if not os.geteuid() else ["unshare", "--map-root-user", "--mount"]
    if mounts and subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("cannot: no process may mount anything here")
    command = [*(unshare if mounts else []), sys.executable, "-c", PRELUDE + code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr
