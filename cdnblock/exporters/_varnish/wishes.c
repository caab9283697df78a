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
