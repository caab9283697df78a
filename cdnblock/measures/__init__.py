"""What we do about it: one file for each of the three duties of the ruling. Pure."""
