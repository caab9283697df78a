"""A mitmproxy script that breaks the addon's decisions for hosts under `fault.example`, as a bug would."""

from __future__ import annotations

from mitmproxy import ctx


class _Broken:
    """The enforcer, but for one host about which nothing can be said."""

    def __init__(self, enforcer) -> None:
        self._enforcer = enforcer

    def __getattr__(self, name: str):
        return getattr(self._enforcer, name)

    def decide(self, host, client):
        if b"fault.example" in (host if isinstance(host, bytes) else host.encode()):
            raise ZeroDivisionError("a bug in the decision")
        return self._enforcer.decide(host, client)

    def decide_query_name(self, name, client):
        if "fault.example" in name:
            raise ZeroDivisionError("a bug in the decision")
        return self._enforcer.decide_query_name(name, client)


def running() -> None:
    addon = ctx.master.addons.get("cdnblock")
    addon._enforcer = _Broken(addon._enforcer)
