"""Staging: an origin, an edge with a cache, a resolver and probing clients on loopback."""
