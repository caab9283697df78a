"""`cdnblock` and `python -m cdnblock`."""

from __future__ import annotations

from cdnblock.cli.root import root


def main() -> None:
    """Run the command line."""
    root(auto_envvar_prefix="CDNBLOCK")


if __name__ == "__main__":
    main()
