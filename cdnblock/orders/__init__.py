"""What the court said: order files, their values and their calendar. Pure."""
