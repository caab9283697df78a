"""Is this request covered: names, rules, decisions. Pure."""
