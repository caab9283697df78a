"""A process that writes a trail as fast as it can until it is killed; see test_kill.py. Arguments: its folder, where."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from trails import AT

from cdnblock.audit.records import Kind
from cdnblock.audit.recovery import forget_torn
from cdnblock.audit.writing import Writer


def main(folder: str) -> None:
    """Open the trail as a recorder does, and write for ever; each head that was told is told on stdout, too."""
    writer = Writer(Path(folder), segment_size=1024 * 1024, on_record=lambda _: None)
    for gap in writer.found.gaps:
        writer.append(AT, AT, Kind.GAP, gap)
    writer.tell_head()
    forget_torn(writer.folder)
    number = 0
    while True:
        for _ in range(3):
            number += 1
            # Some are many pages long, so that one write is many steps of the kernel.
            about = ["x" * 4000] * (60 if number % 5 == 0 else 1)
            writer.append(AT, AT, Kind.ENFORCED, {"order": "motogp", "about": about, "count": 1})
        writer.tell_head()
        sys.stdout.write(f"{writer.head.seq}\n")
        sys.stdout.flush()


main(sys.argv[1])
