"""A trail that is being written: what is told of goes to a thread of its own, which alone touches the folder."""

from __future__ import annotations
