"""Court-ordered blocking at the edge, exactly."""
