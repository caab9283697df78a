"""How resolvers walk policy zones: by the longest suffix, or as DNS does (RFC 4592); the first zone that has a say decides."""

from __future__ import annotations

from cdnblock.rpz_primary.policies import Action, below_of, own_of


def owners(zone):
    """Return the records of a zone: owner, and what it is told."""
    found = {}
    for name, of in zone.items():
        if own_of(of):
            found[name] = own_of(of)
        if below_of(of):
            found[f"*.{name}"] = below_of(of)
    return found


def by_longest_suffix(zone, host):
    """Return what a zone says of a host, as a trie finds it."""
    records = owners(zone)
    if host in records:
        return records[host]
    while host := host.partition(".")[2]:
        if f"*.{host}" in records:
            return records[f"*.{host}"]
    return None


def as_dns(zone, host):
    """Return the same where a name that is there, or has something below it, hides the wildcards above it."""
    records = owners(zone)
    nodes = {name for owner in records for name in _with_all_above(owner)}
    if host in nodes:
        return records.get(host)
    while host := host.partition(".")[2]:
        if host in nodes:
            return records.get(f"*.{host}")
    return records.get("*")


def told(zones, host, walk):
    """Return the variant that a resolver with these zones refuses a host by, None where it lets it through."""
    for zone in zones:
        if (action := walk(zone, host)) is not None:
            return {Action.NXDOMAIN: "nxdomain", Action.NODATA: "nodata", Action.PASS: None}[action]
    return None


def _with_all_above(owner):
    while owner:
        yield owner
        owner = owner.partition(".")[2]
