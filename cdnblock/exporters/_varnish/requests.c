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
