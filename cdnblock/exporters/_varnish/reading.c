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
