"""What an engine was made to go by, as the trail has it: one record each time that something came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdnblock.audit.records import Kind

if TYPE_CHECKING:
    from cdnblock.audit.trail import Trail
    from cdnblock.engines.applying import Applied

_SHOWN: Final = 50  # files, and names, that a record lists


def record_applied(trail: Trail | None, engine: str, applied: Applied, *, is_probed: bool) -> None:
    """Record that an engine goes by a revision now, and what asking it as clients do came to."""
    if trail is None:
        return
    asked = "probed, in step" if is_probed else "in place, nobody asked"
    trail.event(
        Kind.APPLIED,
        engine=engine,
        revision=applied.revision,
        until=None if applied.until is None else applied.until.isoformat(),
        result="not in step for some names" if applied.wrong else asked,
        wrong=list(applied.wrong[:_SHOWN]),
        missing=list(applied.missing[:_SHOWN]),
        changed=list(applied.changed[:_SHOWN]),
        files_changed=len(applied.changed),
        milliseconds={step: round(1_000 * seconds) for step, seconds in applied.seconds.items()},
    )


def record_failure(trail: Trail | None, engine: str, revision: str, why: str) -> None:
    """Record that an engine does not go by a revision, and why."""
    if trail is not None:
        trail.event(Kind.APPLIED, engine=engine, revision=revision, result="failed", why=why)
