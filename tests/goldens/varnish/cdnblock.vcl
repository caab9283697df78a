# Written by `cdnblock export varnish`: do not edit. For which orders, the table tells.
C{
/* What Varnish looks up for each request, in a table that is read when the VCL is loaded and never changes after.
 *
 * The table is text, a key and a value on each line; a line that begins with # is a comment:
 *
 *   a.example g1f…              the group of a name and all below it; =a.example of that host alone; - lets go
 *   :g1f…:FR terminate:o2e…:fr  what becomes of a group's clients in a place
 *   @203.0.113.0/24 FR          where a network is
 *   !10.0.0.0/8 -               whose X-Forwarded-For is believed
 *   :o2e…:fr:text/html <…>      a notice: %0A is an octet, |2| the last two labels of the host
 *   :end 12345                  the last line: how many there are before it
 *
 * Whatever cannot be done ends in VRT_fail, which is a 503: nothing passes undecided.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define CDNBLOCK_TABLE "/etc/cdnblock/cdnblock.table"

enum {
	CB_LONGEST_HOST = 253,
	CB_LONGEST_KEY = 256,
	CB_LONGEST_NODE = 128,
	CB_MOST_HOPS = 256,
	CB_MOST_OF_A_FIELD = 2000,
	CB_MOST_RANGES = 64,
};

static const char cb_other[] = "other", cb_unknown[] = "unknown";

struct cb_net {
	unsigned char from[16]; /* IPv4 as IPv4-mapped */
	unsigned bits;
	long within; /* the smallest network around this one, -1 if there is none */
	const char *place;
};

struct cb_nets {
	struct cb_net *net;
	size_t count;
};

static struct {
	char *text;
	uint64_t *slot; /* half a hash, and where in the text a line begins, plus one */
	uint64_t mask;
	struct cb_nets territory, trusted;
	uint64_t depths[2]; /* bit n: there is a name of n labels */
	size_t longest;
	int exact;
} cb;

/* --- The index: FNV-1a from the right, so that all suffixes of a host cost one pass --- */

static const uint64_t cb_first = 0xcbf29ce484222325ULL;

static inline uint64_t
cb_step(uint64_t hash, char c)
{
	return ((hash ^ (unsigned char)c) * 0x100000001b3ULL);
}

static uint64_t
cb_hash(const char *key, size_t length)
{
	uint64_t hash = cb_first;

	while (length-- > 0)
		hash = cb_step(hash, key[length]);
	return (hash);
}

static inline uint64_t
cb_mixed(uint64_t hash)
{
	hash ^= hash >> 32;
	return (hash * 0x9e3779b97f4a7c15ULL);
}

/* The value of a key, NULL if it is not there. */
static const char *
cb_find(uint64_t hash, const char *key, size_t length)
{
	uint64_t at, mixed = cb_mixed(hash);

	for (at = (mixed >> 20) & cb.mask; cb.slot[at] != 0; at = (at + 1) & cb.mask) {
		const char *line = cb.text + (uint32_t)cb.slot[at] - 1;
		if ((cb.slot[at] ^ mixed) >> 32 == 0 && !strncmp(line, key, length) && line[length] == ' ')
			return (line + length + 1);
	}
	return (NULL);
}

static const char *
cb_told(const char *first, const char *second, const char *third)
{
	char key[CB_LONGEST_KEY];
	int length;

	length = snprintf(key, sizeof key, ":%s%s%s%s%s", first, second ? ":" : "", second ? second : "", third ? ":" : "",
	    third ? third : "");
	if (length < 0 || (size_t)length >= sizeof key)
		return (NULL);
	return (cb_find(cb_hash(key, length), key, length));
}

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

/* --- The table is read --- */

static void
cb_index(const char *key, size_t length)
{
	uint64_t mixed = cb_mixed(cb_hash(key, length)), at;

	for (at = (mixed >> 20) & cb.mask; cb.slot[at] != 0; at = (at + 1) & cb.mask)
		;
	cb.slot[at] = (mixed & 0xffffffff00000000ULL) | (uint64_t)(key - cb.text + 1);
}

static void
cb_count_labels(const char *name, size_t length)
{
	unsigned labels = 1;
	size_t at;

	for (at = 0; at < length; at++)
		labels += name[at] == '.';
	if (labels < 128)
		cb.depths[labels / 64] |= 1ULL << labels % 64;
}

static const char *
cb_read_line(char *line, size_t number)
{
	char *space = strchr(line, ' ');
	struct cb_nets *nets;
	size_t length;

	if (space == NULL || space == line)
		return ("a line without a key or a value");
	length = (size_t)(space - line);
	switch (*line) {
	case '@':
	case '!':
		nets = *line == '@' ? &cb.territory : &cb.trusted;
		*space = '\0';
		nets->net[nets->count].place = space + 1;
		if (!cb_network(line + 1, &nets->net[nets->count++]))
			return ("a line without a network");
		return (NULL);
	case ':':
		if (!strncmp(line, ":end ", 5) && strtoul(space + 1, NULL, 10) != number)
			return ("not as many lines as it says");
		break;
	case '=':
		cb.exact = 1;
		if (length - 1 > cb.longest)
			cb.longest = length - 1;
		break;
	default:
		cb_count_labels(line, length);
		if (length > cb.longest)
			cb.longest = length;
	}
	cb_index(line, length);
	return (NULL);
}

static const char *
cb_read_lines(size_t length)
{
	char *line, *end;
	size_t number = 0;
	const char *wrong;

	for (line = cb.text; line < cb.text + length; line = end + 1) {
		end = memchr(line, '\n', (size_t)(cb.text + length - line));
		if (end == NULL)
			return ("it is cut short");
		*end = '\0';
		if (*line != '#') {
			wrong = cb_read_line(line, number++);
			if (wrong != NULL)
				return (wrong);
		}
	}
	if (cb_told("end", NULL, NULL) == NULL)
		return ("it is cut short");
	cb_nest(&cb.territory);
	cb_nest(&cb.trusted);
	return (NULL);
}

static void
cb_forget(void)
{
	free(cb.text);
	free(cb.slot);
	free(cb.territory.net);
	free(cb.trusted.net);
	memset(&cb, 0, sizeof cb);
}

static const char *
cb_make_room(size_t length)
{
	size_t at, lines = 0, nets = 0, trusted = 0, slots = 16;

	for (at = 0; at < length; at++) {
		if (at == 0 || cb.text[at - 1] == '\n') {
			lines++;
			nets += cb.text[at] == '@';
			trusted += cb.text[at] == '!';
		}
	}
	while (slots < 2 * lines)
		slots *= 2;
	cb.mask = slots - 1;
	cb.slot = calloc(slots, sizeof *cb.slot);
	cb.territory.net = calloc(nets + 1, sizeof *cb.territory.net);
	cb.trusted.net = calloc(trusted + 1, sizeof *cb.trusted.net);
	if (cb.slot == NULL || cb.territory.net == NULL || cb.trusted.net == NULL)
		return (strerror(ENOMEM));
	return (cb_read_lines(length));
}

/* What is wrong with the table, NULL if all is well. */
static const char *
cb_load(const char *path)
{
	FILE *file = fopen(path, "re");
	const char *wrong = NULL;
	long length;

	if (file == NULL)
		return (strerror(errno));
	if (fseek(file, 0, SEEK_END) || (length = ftell(file)) < 0 || fseek(file, 0, SEEK_SET))
		wrong = strerror(errno);
	else if (length >= (long)UINT32_MAX)
		wrong = "it is larger than 4 GiB";
	else if ((cb.text = malloc((size_t)length + 1)) == NULL)
		wrong = strerror(ENOMEM);
	else if (fread(cb.text, 1, (size_t)length, file) != (size_t)length)
		wrong = "it could not be read whole";
	else {
		cb.text[length] = '\0';
		wrong = strlen(cb.text) == (size_t)length ? cb_make_room((size_t)length) : "it holds a NUL";
	}
	(void)fclose(file);
	if (wrong != NULL)
		cb_forget();
	return (wrong);
}

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

/* --- What a client reads (RFC 9110 §12.5), as the library chooses it --- */

struct cb_range {
	const char *name;
	int quality; /* in thousandths */
};

static char *
cb_stripped(char *text)
{
	char *end;

	text += strspn(text, " \t");
	for (end = text + strlen(text); end > text && (end[-1] == ' ' || end[-1] == '\t');)
		*--end = '\0';
	return (text);
}

/* RFC 9110 §12.4.2; -1 for a weight that is none. */
static int
cb_weight(const char *value)
{
	int weight = 0, digit = 100;

	if (*value != '0' && *value != '1')
		return (-1);
	weight = *value == '1' ? 1000 : 0;
	if (*++value == '.')
		for (value++; digit > 0 && *value >= '0' && *value <= '9'; value++, digit /= 10)
			weight += digit * (*value - '0');
	return (*value == '\0' && weight <= 1000 ? weight : -1);
}

static int
cb_quality(char *parameters)
{
	char *parameter, *value;

	while ((parameter = strsep(&parameters, ";")) != NULL) {
		value = strchr(parameter, '=');
		if (value != NULL)
			*value++ = '\0';
		if (!strcasecmp(cb_stripped(parameter), "q"))
			return (value == NULL ? -1 : cb_weight(cb_stripped(value)));
	}
	return (1000);
}

/* The ranges of a field, which is written over. */
static size_t
cb_ranges(char *field, struct cb_range *ranges)
{
	size_t count = 0, items;
	char *item, *name;

	for (items = 0; items < CB_MOST_RANGES && (item = strsep(&field, ",")) != NULL; items++) {
		name = cb_stripped(strsep(&item, ";"));
		ranges[count].name = name;
		ranges[count].quality = cb_quality(item);
		count += *name != '\0' && ranges[count].quality >= 0;
	}
	return (count);
}

static size_t
cb_asked(const char *field, char *lower, struct cb_range *ranges)
{
	size_t at;

	for (at = 0; field != NULL && field[at] != '\0' && at < CB_MOST_OF_A_FIELD; at++)
		lower[at] = (char)(field[at] >= 'A' && field[at] <= 'Z' ? field[at] + ('a' - 'A') : field[at]);
	lower[at] = '\0';
	return (cb_ranges(lower, ranges));
}

/* Put the next word of a list `a|b|c` into `word`; NULL after the last. */
static const char *
cb_next(const char *list, char *word, size_t room)
{
	size_t length = list == NULL ? 0 : strcspn(list, "|");

	if (length == 0 || length >= room)
		return (NULL);
	memcpy(word, list, length);
	word[length] = '\0';
	return (list + length + (list[length] == '|'));
}

/* Lookup, RFC 4647 §3.4: `fr-CA` asks for `fr`. */
static void
cb_language(const char *field, const char *fallback, char *chosen, size_t room)
{
	char lower[CB_MOST_OF_A_FIELD + 1], word[16];
	struct cb_range ranges[CB_MOST_RANGES];
	size_t at, count = cb_asked(field, lower, ranges);
	const char *list, *spoken = cb_told("languages", NULL, NULL);
	int best = 0, refused;

	(void)snprintf(chosen, room, "%s", fallback);
	for (at = 0; at < count; at++)
		for (list = cb_next(spoken, word, sizeof word); list != NULL; list = cb_next(list, word, sizeof word))
			if (ranges[at].quality > best && strcspn(ranges[at].name, "-") == strlen(word) &&
			    !strncmp(ranges[at].name, word, strlen(word))) {
				best = ranges[at].quality;
				(void)snprintf(chosen, room, "%s", word);
			}
	for (list = spoken; best == 0;) {
		for (at = refused = 0; at < count; at++)
			refused |= ranges[at].quality == 0 && !strcmp(ranges[at].name, chosen);
		if (!refused)
			return;
		list = cb_next(list, word, sizeof word);
		(void)snprintf(chosen, room, "%s", list != NULL ? word : fallback);
		if (list == NULL)
			return;
	}
}

/* How well an offer suits: quality, then exactness, then earliness; 0 if not at all. */
static int
cb_rating(const char *offer, const struct cb_range *ranges, size_t count)
{
	char kind[64];
	const char *patterns[] = {offer, kind, "*/*"};
	size_t at, exactness;

	(void)snprintf(kind, sizeof kind, "%.*s/*", (int)strcspn(offer, "/"), offer);
	for (exactness = 0; exactness < 3; exactness++)
		for (at = 0; at < count; at++)
			if (!strcmp(ranges[at].name, patterns[exactness]))
				return (ranges[at].quality == 0 ? 0 :
				    (ranges[at].quality * 4 + 3 - (int)exactness) * (CB_MOST_RANGES + 1) + (int)(count - at));
	return (0);
}

static void
cb_type(const char *field, char *chosen, size_t room)
{
	char lower[CB_MOST_OF_A_FIELD + 1], word[64];
	struct cb_range ranges[CB_MOST_RANGES];
	size_t at, count = cb_asked(field, lower, ranges);
	const char *meant, *list, *offers = cb_told("types", NULL, NULL);
	int best = 0, rating;

	for (at = 0; at < count; at++)
		if ((meant = cb_told("meant", ranges[at].name, NULL)) != NULL)
			ranges[at].name = meant;
	(void)cb_next(offers, chosen, room);
	for (list = cb_next(offers, word, sizeof word); list != NULL; list = cb_next(list, word, sizeof word)) {
		rating = cb_rating(word, ranges, count);
		if (rating > best) {
			best = rating;
			(void)snprintf(chosen, room, "%s", word);
		}
	}
}

/* --- The notice --- */

static const char *
cb_last_labels(const char *host, long count)
{
	const char *from = host + strlen(host);

	for (; from > host; from--)
		if (from[-1] == '.' && --count == 0)
			break;
	return (from);
}

/* A notice's text with the host's labels in it, to be freed; NULL if there is no memory. */
static char *
cb_filled(const char *text, const char *host)
{
	size_t marks = 0, at;
	char *filled, *to, *end;
	char digits[3] = "";

	for (at = 0; text[at] != '\0'; at++)
		marks += text[at] == '|';
	filled = to = malloc(at + marks * CB_LONGEST_HOST + 1);
	for (; filled != NULL && *text != '\0'; text++) {
		if (*text == '%' && text[1] != '\0' && text[2] != '\0') {
			memcpy(digits, text + 1, 2);
			*to++ = (char)strtoul(digits, NULL, 16);
			text += 2;
		} else if (*text == '|') {
			to = stpcpy(to, cb_last_labels(host, strtol(text + 1, &end, 10)));
			text = *end == '|' ? end : text;
		} else
			*to++ = *text;
	}
	if (filled != NULL)
		*to = '\0';
	return (filled);
}

/* --- Between Varnish and the table --- */

#if VRT_MAJOR_VERSION < 22U
#  define CB_FIELD(where, size, name) {where, size name ":"}
#else
#  define CB_FIELD(where, size, name) {where, HDR(name)}
#endif
static const struct gethdr_s
	cb_req_host = CB_FIELD(HDR_REQ, "\5", "Host"),
	cb_req_action = CB_FIELD(HDR_REQ, "\22", "X-Cdnblock-Action"),
	cb_req_forwarded = CB_FIELD(HDR_REQ, "\20", "X-Forwarded-For"),
	cb_req_accept = CB_FIELD(HDR_REQ, "\7", "Accept"),
	cb_req_language = CB_FIELD(HDR_REQ, "\20", "Accept-Language"),
	cb_resp_type = CB_FIELD(HDR_RESP, "\15", "Content-Type"),
	cb_resp_language = CB_FIELD(HDR_RESP, "\21", "Content-Language"),
	cb_bereq_host = CB_FIELD(HDR_BEREQ, "\5", "Host"),
	cb_beresp_host = CB_FIELD(HDR_BERESP, "\20", "X-Cdnblock-Host");

static const char cb_free[] = "free", cb_bad[] = "bad", cb_tunnel[] = "tunnel";

/* Set a field, and be sure that it is there: Varnish drops what finds no room among a request's many. */
static void
cb_set(VRT_CTX, const struct gethdr_s *field, const char *value)
{
	const char *there;

	VRT_SetHdr(ctx, field, NULL, TOSTRAND(value));
	there = VRT_GetHdr(ctx, field);
	if (there == NULL || strcmp(there, value))
		VRT_fail(ctx, "cdnblock: no room for a field");
}

static const char *
cb_place_of_client(VRT_CTX)
{
	unsigned char address[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	const unsigned char *peer = NULL;
	const char *field = VRT_GetHdr(ctx, &cb_req_forwarded);

	switch (VRT_VSA_GetPtr(ctx, VRT_r_client_ip(ctx), &peer)) {
	case PF_INET:
		memcpy(address + 12, peer, 4);
		break;
	case PF_INET6:
		memcpy(address, peer, 16);
		break;
	default:
		return (cb_unknown);
	}
	if (field != NULL && !cb_forwarded(field, address))
		return (cb_unknown);
	return (cb_place(address));
}

/* What becomes of a request. The answer lives as long as the VCL does. */
static const char *
cb_decide(VRT_CTX)
{
	char buffer[CB_LONGEST_HOST + 3], *host = buffer + 1;
	const char *field = VRT_GetHdr(ctx, &cb_req_host), *group, *action = NULL, *url = VRT_r_req_url(ctx);
	int length, tunnel = !VRT_strcmp(VRT_r_req_method(ctx), "CONNECT");

	if (tunnel)
		field = url;
	else if (url == NULL || (*url != '/' && strcmp(url, "*")))
		return (cb_bad);
	if (field == NULL)
		return (VRT_strcmp(VRT_r_req_proto(ctx), "HTTP/1.0") ? cb_bad : cb_free);
	length = cb_host(field, host);
	if (length < 0)
		return (cb_bad);
	if (length > 0 && (group = cb_group(host, (size_t)length)) != NULL)
		action = cb_told(group, cb_place_of_client(ctx), NULL);
	if (tunnel && (action == NULL || *action == 'u'))
		return (cb_tunnel);
	return (action == NULL ? cb_free : action);
}

/* vcl_recv: X-Cdnblock-Action tells what becomes of the request; it is decided once, whatever is restarted. */
static void
cb_recv(VRT_CTX)
{
	struct vmod_priv *kept = VRT_priv_task(ctx, &cb);
	const char *answer;
	char verb[16];

	if (kept == NULL) {
		VRT_fail(ctx, "cdnblock: no room in the workspace");
		return;
	}
	if (kept->priv == NULL)
		kept->priv = (void *)(uintptr_t)cb_decide(ctx);
	answer = kept->priv;
	if (answer != cb_free) {
		(void)snprintf(verb, sizeof verb, "%.*s", (int)strcspn(answer, ":"), answer);
		cb_set(ctx, &cb_req_action, verb);
	}
}

/* vcl_synth: the notice, in the client's language and type. */
static void
cb_notice(VRT_CTX)
{
	char host[CB_LONGEST_HOST + 2] = "", outcome[72], own[16], language[16], type[64] = "", *body;
	const struct vmod_priv *kept = VRT_priv_task(ctx, &cb);
	const char *field = VRT_GetHdr(ctx, &cb_req_host), *text;

	if (kept == NULL || kept->priv == NULL || sscanf(kept->priv, "terminate:%71[^:]:%15s", outcome, own) != 2) {
		VRT_fail(ctx, "cdnblock: a notice about nothing");
		return;
	}
	if (!VRT_strcmp(VRT_r_req_method(ctx), "CONNECT"))
		field = VRT_r_req_url(ctx);
	if (field != NULL)
		(void)cb_host(field, host);
	cb_language(VRT_GetHdr(ctx, &cb_req_language), own, language, sizeof language);
	cb_type(VRT_GetHdr(ctx, &cb_req_accept), type, sizeof type);
	text = cb_told(outcome, language, type);
	body = cb_filled(text == NULL ? "" : text, host);
	text = cb_told("content-type", type, NULL);
	cb_set(ctx, &cb_resp_type, text == NULL ? "text/plain" : text);
	cb_set(ctx, &cb_resp_language, language);
	if (body != NULL)
		VRT_synth_strands(ctx, TOSTRAND(body));
	free(body);
}

/* vcl_backend_response: what is stored bears the host that it was fetched for, so that it can be purged. */
static void
cb_mark(VRT_CTX)
{
	char host[CB_LONGEST_HOST + 2];
	const char *field = VRT_GetHdr(ctx, &cb_bereq_host);

	if (field != NULL && cb_host(field, host) > 0)
		VRT_SetHdr(ctx, &cb_beresp_host, NULL, TOSTRAND(host));
}
}C

import std;

sub vcl_init {
  C{
    const char *wrong = cb_load(CDNBLOCK_TABLE);
    if (wrong != NULL)
      VRT_fail(ctx, "cdnblock: %s: %s", CDNBLOCK_TABLE, wrong);
  }C
}

sub vcl_fini {
  C{ cb_forget(); }C
}

sub vcl_recv {
  # What clients say in this field is nobody's word.
  unset req.http.X-Cdnblock-Action;
  C{ cb_recv(ctx); }C
  if (req.http.X-Cdnblock-Action) {
    if (req.http.X-Cdnblock-Action == "uncached") {
      # Measure cdn: whatever you return below, nothing that is stored is looked at, and nothing is waited for.
      set req.hash_always_miss = true;
      set req.hash_ignore_busy = true;
    } elseif (req.http.X-Cdnblock-Action == "terminate") {
      return (synth(451, "Unavailable For Legal Reasons"));
    } elseif (req.http.X-Cdnblock-Action == "close") {
      # Varnish sends nothing after the time to send is over: not an octet, and the connection ends.
      if (req.esi_level == 0 && req.proto != "HTTP/2.0") { set sess.send_timeout = 0s; }
      return (synth(451, "Unavailable For Legal Reasons"));
    } elseif (req.http.X-Cdnblock-Action == "tunnel") {
      return (synth(405));
    } else {
      return (synth(400));
    }
  }
  # A pipe is undecided from the second request on, so nothing becomes one that asks for another protocol than WebSocket.
  if (req.http.Upgrade) {
    std.collect(req.http.Upgrade);
    std.collect(req.http.Connection);
    if (req.method != "GET" || req.http.Upgrade !~ "(?i)^websocket$" ||
        req.http.Connection !~ "(?i)(^|[ ,])upgrade($|[ ,])" || req.http.Sec-WebSocket-Version != "13" ||
        req.http.Sec-WebSocket-Key !~ "^[A-Za-z0-9+/]{22}==$" ||
        req.http.Content-Length || req.http.Transfer-Encoding) {
      unset req.http.Upgrade;
    }
  }
}

sub vcl_pipe {
  # An origin that answers with a page has to close then: what comes next on the connection would be undecided.
  unset bereq.http.X-Cdnblock-Action;
  unset bereq.http.HTTP2-Settings;
  if (req.http.Upgrade) {
    set bereq.http.Upgrade = "websocket";
    set bereq.http.Connection = "Upgrade, close";
  } else {
    unset bereq.http.Upgrade;
    set bereq.http.Connection = "close";
  }
  return (pipe);
}

sub vcl_hit {
  if (req.http.X-Cdnblock-Action == "uncached") { return (pass); }
}

sub vcl_miss {
  if (req.http.X-Cdnblock-Action == "uncached") { return (pass); }
}

sub vcl_backend_fetch {
  unset bereq.http.X-Cdnblock-Action;
}

sub vcl_backend_response {
  C{ cb_mark(ctx); }C
}

sub vcl_deliver {
  unset resp.http.X-Cdnblock-Host;
  if (req.http.X-Cdnblock-Action == "uncached") {
    unset resp.http.expires;
    unset resp.http.age;
    unset resp.http.surrogate-control;
    unset resp.http.cloudflare-cdn-cache-control;
    unset resp.http.akamai-cache-control;
    unset resp.http.edge-control;
    unset resp.http.vercel-cdn-cache-control;
    unset resp.http.netlify-cdn-cache-control;
    unset resp.http.x-accel-expires;
    unset resp.http.x-litespeed-cache-control;
    unset resp.http.surrogate-key;
    unset resp.http.cache-tag;
    unset resp.http.edge-cache-tag;
    unset resp.http.netlify-cache-tag;
    unset resp.http.vercel-cache-tag;
    unset resp.http.x-litespeed-tag;
    set resp.http.Cache-Control = "no-store";
    set resp.http.CDN-Cache-Control = "no-store";
  }
}

sub vcl_synth {
  if (req.http.X-Cdnblock-Action == "terminate") {
    std.collect(req.http.Accept);
    std.collect(req.http.Accept-Language);
    set resp.http.Vary = "Accept, Accept-Language";
    set resp.http.Link = "<https://edge.example/blocked>; rel=" + {"""} + "blocked-by" + {"""} + "";
    set resp.http.Cache-Control = "no-store";
    set resp.http.CDN-Cache-Control = "no-store";
    set resp.http.X-Content-Type-Options = "nosniff";
    set resp.http.Referrer-Policy = "no-referrer";
    set resp.http.Content-Security-Policy = "default-src 'none'; style-src 'sha256-Nn20JhRLq2/5PeySsLZTj8HicQ4ILcO297h4r30DSe8='; base-uri 'none'; form-action 'none'";
    C{ cb_notice(ctx); }C
    return (deliver);
  }
  if (req.http.X-Cdnblock-Action == "close") {
    # Who sees this came over HTTP/2, where nothing of VCL ends a stream.
    set resp.http.Cache-Control = "no-store";
    set resp.http.CDN-Cache-Control = "no-store";
    set resp.http.Connection = "close";
    set resp.body = "";
    return (deliver);
  }
  if (req.http.X-Cdnblock-Action == "uncached") {
    unset resp.http.expires;
    unset resp.http.age;
    unset resp.http.surrogate-control;
    unset resp.http.cloudflare-cdn-cache-control;
    unset resp.http.akamai-cache-control;
    unset resp.http.edge-control;
    unset resp.http.vercel-cdn-cache-control;
    unset resp.http.netlify-cdn-cache-control;
    unset resp.http.x-accel-expires;
    unset resp.http.x-litespeed-cache-control;
    unset resp.http.surrogate-key;
    unset resp.http.cache-tag;
    unset resp.http.edge-cache-tag;
    unset resp.http.netlify-cache-tag;
    unset resp.http.vercel-cache-tag;
    unset resp.http.x-litespeed-tag;
    set resp.http.Cache-Control = "no-store";
    set resp.http.CDN-Cache-Control = "no-store";
  }
}
