/* --- Clients --- */

static int
cb_is_port(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	if (*text == '_')
		return (text[1] != '\0' && text[1 + strspn(text + 1,
		    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")] == '\0');
	return (digits >= 1 && digits <= 5 && text[digits] == '\0');
}

/* One hop of X-Forwarded-For: an address, perhaps in brackets, perhaps with a port; 0 for anything else. */
static int
cb_node(const char *from, size_t length, unsigned char *address)
{
	char node[CB_LONGEST_NODE], *text = node, *end;

	if (length >= sizeof node)
		return (0);
	memcpy(node, from, length);
	node[length] = '\0';
	if (*node == '[') {
		text = node + 1;
		end = strchr(text, ']');
		if (end == NULL || memchr(text, ':', (size_t)(end - text)) == NULL)
			return (0);
		*end++ = '\0';
		if (*end != '\0' && (*end != ':' || !cb_is_port(end + 1)))
			return (0);
	} else if ((end = strchr(node, ':')) != NULL && memchr(node, '.', (size_t)(end - node)) != NULL) {
		*end = '\0';
		if (!cb_is_port(end + 1))
			return (0);
	}
	end = strchr(text, '%');
	if (end != NULL && end[1] != '\0' && strchr(text, ':') != NULL)
		*end = '\0';
	return (cb_address(text, address));
}

/* From the right: the first address that no trusted proxy has. What one of them wrote and cannot be read hides it. */
static int
cb_forwarded(const char *field, unsigned char *address)
{
	const char *end = field + strlen(field), *from, *to;
	int hops = 0;

	while (end != NULL && cb_around(&cb.trusted, address) != NULL) {
		for (from = end; from > field && from[-1] != ',';)
			from--;
		to = end;
		end = from > field ? from - 1 : NULL;
		while (from < to && (*from == ' ' || *from == '\t'))
			from++;
		while (from < to && (to[-1] == ' ' || to[-1] == '\t'))
			to--;
		if (from < to && (++hops > CB_MOST_HOPS || !cb_node(from, (size_t)(to - from), address)))
			return (0);
	}
	return (1);
}

/* The IPv4 address that an IPv6 address carries, as IPv4-mapped; else the address itself. */
static void
cb_unwrap(const unsigned char *address, unsigned char *inner)
{
	static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	static const unsigned char nat64[12] = {0x00, 0x64, 0xff, 0x9b}; /* RFC 6052 */
	static const unsigned char teredo[4] = {0x20, 0x01, 0x00, 0x00}; /* RFC 4380 §4 */
	static const unsigned char six_to_four[2] = {0x20, 0x02}; /* RFC 3056 */
	int at, is_teredo = !memcmp(address, teredo, sizeof teredo);

	memcpy(inner, address, 16);
	if (is_teredo || !memcmp(address, nat64, sizeof nat64)) {
		memcpy(inner, mapped, sizeof mapped);
		for (at = 12; at < 16 && is_teredo; at++)
			inner[at] = (unsigned char)~address[at];
	} else if (!memcmp(address, six_to_four, sizeof six_to_four)) {
		memcpy(inner, mapped, sizeof mapped);
		memcpy(inner + 12, address + 2, 4);
	}
}

static const char *
cb_place(const unsigned char *address)
{
	unsigned char inner[16];
	const struct cb_net *net;

	cb_unwrap(address, inner);
	net = cb_around(&cb.territory, inner);
	return (net == NULL ? cb_other : net->place);
}
