"""What is in force now, what changes next, and what somebody must look at."""

from __future__ import annotations

from typing import Final

from cdnblock.dashboard.alarms import Level, alarms_of
from cdnblock.dashboard.pages.trail import shown_record
from cdnblock.dashboard.rendering import Asked, Page
from cdnblock.dashboard.view import View
from cdnblock.orders.life import OrderState

_NEXT: Final = 8  # changes


def overview(view: View, asked: Asked) -> Page:
    """Return the first page."""
    status, register = view.status(), view.register()
    states = register.states(asked.now)
    alarms = alarms_of(view, asked.now)
    return Page(
        template="overview.html",
        values={
            "status": status,
            "alarms": alarms,
            "pressing": sum(alarm.level is Level.ALARM for alarm in alarms),
            "states": states,
            "in_force": states[OrderState.IN_FORCE],
            "upcoming": register.upcoming(asked.now, _NEXT),
            "geo": view.enforcer.geo.description,
            "has_trail": view.trail is not None,
            "latest": [shown_record(record) for record in view.latest(_NEXT)],
        },
    )
