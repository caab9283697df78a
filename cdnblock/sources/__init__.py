"""What we read: order folders, names files, geo tables, and how changes are followed."""
