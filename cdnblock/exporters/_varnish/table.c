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

#define CDNBLOCK_TABLE "@TABLE@"

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
