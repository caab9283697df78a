/* --- Hosts --- */

/* A Host field as a canonical name: its length, 0 for a literal address, -1 for what is no host (RFC 9110 §7.2). */
static int
cb_host(const char *field, char *host)
{
	size_t at = 0, length = 0;

	if (*field == '[') {
		at = 1 + strspn(field + 1, "0123456789ABCDEFabcdef:.");
		if (at == 1 || field[at++] != ']')
			return (-1);
	} else {
		for (; field[at] != '\0' && field[at] != ':'; at++) {
			char c = field[at];
			if (c >= 'A' && c <= 'Z')
				c += 'a' - 'A';
			if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_'))
				return (-1);
			if (c == '.' && (at == 0 || host[at - 1] == '.')) /* an empty label is the root's alone */
				return (-1);
			if (at > CB_LONGEST_HOST)
				return (-1);
			host[at] = c;
		}
		length = at > 0 && host[at - 1] == '.' ? at - 1 : at;
		if (length == 0 || length > CB_LONGEST_HOST)
			return (-1);
		host[length] = '\0';
	}
	if (field[at] != '\0' && (field[at] != ':' || field[at + 1 + strspn(field + at + 1, "0123456789")] != '\0'))
		return (-1);
	return ((int)length);
}

/* The group of a host, NULL if it has none; there is room for one more character before the host. */
static const char *
cb_group(char *host, size_t length)
{
	const char *best = NULL, *found;
	uint64_t hash = cb_first;
	size_t at = length, least = length > cb.longest ? length - cb.longest : 0;
	unsigned depth = 0;

	while (at-- > least) {
		hash = cb_step(hash, host[at]);
		if (at > 0 && host[at - 1] != '.')
			continue;
		depth++;
		if (depth < 128 && (cb.depths[depth / 64] >> depth % 64 & 1) != 0 &&
		    (found = cb_find(hash, host + at, length - at)) != NULL)
			best = found;
	}
	if (cb.exact && least == 0) {
		host[-1] = '=';
		found = cb_find(cb_step(hash, '='), host - 1, length + 1);
		if (found != NULL)
			best = found;
	}
	return (best != NULL && *best != '-' ? best : NULL);
}
