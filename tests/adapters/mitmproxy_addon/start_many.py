"""Run `cdnblock mitmproxy` many times, each in a child of one process that has imported everything already.

Reads a JSON list of {"cwd", "arguments"} from stdin and prints a JSON list of {"code", "said"}.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import traceback

import mitmproxy.tools.dump
import mitmproxy.tools.main  # noqa: F401

import cdnblock.adapters.mitmproxy_addon  # noqa: F401
from cdnblock.cli.root import root


def run(cwd: str, arguments: list[str]) -> dict[str, object]:
    """Return the exit code and what was said; a start that succeeds is ended after 10 s, with code -14."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            signal.alarm(10)  # ends what does not end by itself
            os.chdir(cwd)
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            code = 70
            try:
                root(["mitmproxy", *arguments], auto_envvar_prefix="CDNBLOCK")
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
            except BaseException:  # noqa: BLE001 (whatever it is, it is what was said)
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return {"code": os.waitstatus_to_exitcode(status), "said": said.read().decode(errors="replace")}


if __name__ == "__main__":
    json.dump([run(case["cwd"], case["arguments"]) for case in json.load(sys.stdin)], sys.stdout)
