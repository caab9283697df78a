"""Hosts that answer: one file each, none knows another."""
