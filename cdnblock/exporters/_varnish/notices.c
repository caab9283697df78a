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
