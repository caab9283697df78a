/* --- Networks --- */

static int
cb_contains(const struct cb_net *net, const unsigned char *address)
{
	unsigned whole = net->bits / 8, rest = net->bits % 8;

	return (!memcmp(net->from, address, whole) &&
	    (rest == 0 || (net->from[whole] ^ address[whole]) >> (8 - rest) == 0));
}

static const struct cb_net *
cb_around(const struct cb_nets *nets, const unsigned char *address)
{
	size_t low = 0, high = nets->count;
	long at;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (memcmp(nets->net[middle].from, address, 16) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (at = (long)low - 1; at >= 0; at = nets->net[at].within)
		if (cb_contains(&nets->net[at], address))
			return (&nets->net[at]);
	return (NULL);
}

static int
cb_before(const void *a, const void *b)
{
	const struct cb_net *one = a, *other = b;
	int difference = memcmp(one->from, other->from, 16);

	return (difference ? difference : (int)one->bits - (int)other->bits);
}

static void
cb_nest(struct cb_nets *nets)
{
	size_t at;

	qsort(nets->net, nets->count, sizeof *nets->net, cb_before);
	for (at = 0; at < nets->count; at++) {
		long outer = (long)at - 1;
		while (outer >= 0 && !cb_contains(&nets->net[outer], nets->net[at].from))
			outer = nets->net[outer].within;
		nets->net[at].within = outer;
	}
}

static int
cb_address(const char *text, unsigned char *address)
{
	if (strchr(text, ':'))
		return (inet_pton(AF_INET6, text, address) == 1);
	memset(address, 0, 10);
	memset(address + 10, 0xff, 2);
	return (inet_pton(AF_INET, text, address + 12) == 1);
}

static int
cb_network(char *cidr, struct cb_net *net)
{
	char *end, *slash = strchr(cidr, '/');
	unsigned long bits;

	if (slash == NULL)
		return (0);
	bits = strtoul(slash + 1, &end, 10);
	*slash = '\0';
	if (end == slash + 1 || *end != '\0' || !cb_address(cidr, net->from))
		return (0);
	net->bits = (unsigned)bits + (strchr(cidr, ':') ? 0 : 96);
	return (bits <= 128 && net->bits <= 128);
}
