-- Written by `cdnblock export envoy`: do not edit, export again.
-- revision sha256:46f3d269f6aa3a8d072e39dd783005d106cd3ce38316baf10856fb76f380f4d0
-- holds until 2035-12-31T23:00:00+00:00: export again then
-- countries by test table of 2026-01-01
-- order one: dns nxdomain, cdn disable, proxy terminate; in FR GF GP MQ NC RE TF WF YT; until 2035-12-31T23:00:00+00:00
-- order three: dns nxdomain, cdn disable; in world; until 2035-12-31T23:00:00+00:00
-- order two: dns nxdomain, proxy close; in FR RE; until 2035-12-31T23:00:00+00:00
-- not here: dns is a name server's: a proxy answers no DNS queries
-- MISSING: order two: proxy close: Envoy closes no connection without an answer; written as terminate

local actions = {["g20fd824d36"] = {["FR"] = "obb9c73ed8f", ["GF"] = "obb9c73ed8f", ["GP"] = "obb9c73ed8f", ["MQ"] = "obb9c73ed8f", ["NC"] = "obb9c73ed8f", ["RE"] = "obb9c73ed8f", ["TF"] = "obb9c73ed8f", ["WF"] = "obb9c73ed8f", ["YT"] = "obb9c73ed8f"}, ["g5db8a391fe"] = {["FR"] = "oa03eb52193", ["RE"] = "oa03eb52193"}, ["gd956014574"] = {["FR"] = "o3aba8ebc3f", ["GF"] = "oe032d090f4", ["GP"] = "oe032d090f4", ["MQ"] = "oe032d090f4", ["NC"] = "oe032d090f4", ["RE"] = "o3aba8ebc3f", ["TF"] = "oe032d090f4", ["WF"] = "oe032d090f4", ["YT"] = "oe032d090f4"}, ["geb2f82d3ef"] = {["FR"] = "uncached", ["GF"] = "uncached", ["GP"] = "uncached", ["MQ"] = "uncached", ["NC"] = "uncached", ["RE"] = "uncached", ["TF"] = "uncached", ["WF"] = "uncached", ["YT"] = "uncached", ["other"] = "uncached", ["unknown"] = "uncached"}}
local names = [=[
www.b.example gd956014574
a.example g20fd824d36
free.a.example -
b.example g5db8a391fe
c.example geb2f82d3ef
alone.example=g20fd824d36
]=]
local buckets = [=[
000000000J00011000110001G0001G0001]0002700027]=]
local mask = 7
local ipv4_spans = [=[
c0000200c000027fRE
cb007100cb0071ffFR
]=]
local ipv6_spans = [=[
20010db80000000020010db80000ffffFR
]=]
local trusted_ipv4 = [=[
0a0000000affffff--
]=]
local trusted_ipv6 = [=[
20010db800000000000000000000000720010db8000000000000000000000007--
]=]
local believed = true
local function peer_of(info) return info:downstreamDirectRemoteAddress() end
local bad_host = {headers = {[":status"] = "400", ["content-type"] = "text/plain; charset=utf-8", ["cache-control"] = "no-store", ["cdn-cache-control"] = "no-store", ["x-content-type-options"] = "nosniff", ["referrer-policy"] = "no-referrer", ["content-security-policy"] = "default-src 'none'; style-src 'sha256-Nn20JhRLq2/5PeySsLZTj8HicQ4ILcO297h4r30DSe8='; base-uri 'none'; form-action 'none'"}, body = "400 Bad Request\n\nThe request does not name exactly one valid host.\n"}
local failure = {headers = {[":status"] = "503", ["content-type"] = "text/plain; charset=utf-8", ["retry-after"] = "5", ["cache-control"] = "no-store", ["cdn-cache-control"] = "no-store", ["x-content-type-options"] = "nosniff", ["referrer-policy"] = "no-referrer", ["content-security-policy"] = "default-src 'none'; style-src 'sha256-Nn20JhRLq2/5PeySsLZTj8HicQ4ILcO297h4r30DSe8='; base-uri 'none'; form-action 'none'"}, body = "503 Service Unavailable\n\nThis request could not be handled.\n"}
local has_uncached = true
local removed_from_responses = {"cache-control", "cdn-cache-control", "expires", "age", "surrogate-control", "cloudflare-cdn-cache-control", "akamai-cache-control", "edge-control", "vercel-cdn-cache-control", "netlify-cdn-cache-control", "x-accel-expires", "x-litespeed-cache-control", "surrogate-key", "cache-tag", "edge-cache-tag", "netlify-cache-tag", "vercel-cache-tag", "x-litespeed-tag"}
local no_store = {["cache-control"] = "no-store", ["cdn-cache-control"] = "no-store"}
local languages = {"en", "fr"}
local own_languages = {["FR"] = "fr", ["GF"] = "fr", ["GP"] = "fr", ["MQ"] = "fr", ["NC"] = "fr", ["RE"] = "fr", ["TF"] = "fr", ["WF"] = "fr", ["YT"] = "fr", ["other"] = "en"}
local types = {"text/plain", "text/html", "application/problem+json"}
local content_types = {["text/plain"] = "text/plain; charset=utf-8", ["text/html"] = "text/html; charset=utf-8", ["application/problem+json"] = "application/problem+json"}
local meant_by = {["application/json"] = "application/problem+json", ["application/xhtml+xml"] = "text/html"}
local notice_headers = {["vary"] = "Accept, Accept-Language", ["link"] = "<https://edge.example/blocked>; rel=\"blocked-by\"", ["cache-control"] = "no-store", ["cdn-cache-control"] = "no-store", ["x-content-type-options"] = "nosniff", ["referrer-policy"] = "no-referrer", ["content-security-policy"] = "default-src 'none'; style-src 'sha256-Nn20JhRLq2/5PeySsLZTj8HicQ4ILcO297h4r30DSe8='; base-uri 'none'; form-action 'none'"}
local notices = {["o3aba8ebc3f"] = {["en"] = {["text/plain"] = {"451 Unavailable For Legal Reasons\n\nSeveral legal decisions require the operator of this service to prevent access\nto ", 3, " and ", 2, " for the users\ndescribed below.\n\nTribunal judiciaire de Paris\n  Decision           Tribunal judiciaire de Paris, 28 March 2025\n  At the request of  SECP\n  Legal basis        Code du sport, art. L. 333-10\n  Name concerned     ", 3, "\n  Users concerned    Those who connect from France, French Guiana, Guadeloupe,\n                     Martinique, New Caledonia, R\195\169union, French Southern and\n                     Antarctic Lands, Wallis and Futuna and Mayotte\n  Until              31 December 2035, 24:00 (Europe/Paris, UTC+01:00)\n  Reference          one\n\nTribunal judiciaire de Paris\n  Decision           Tribunal judiciaire de Paris, 28 March 2025\n  At the request of  SECP\n  Legal basis        Code du sport, art. L. 333-10\n  Name concerned     ", 2, "\n  Users concerned    Those who connect from France and R\195\169union\n  Until              31 December 2035, 24:00 (Europe/Paris, UTC+01:00)\n  Reference          two\n\nThis measure is applied by the operator of this service:\nhttps://edge.example/blocked\n\nThis notice does not say whether the page you asked for exists.\n"}, ["text/html"] = {"<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"robots\" content=\"noindex\">\n<title>451 \226\128\147 Unavailable for legal reasons</title>\n<style>\n:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #1c1d21; --soft: #5b5e68; --line: #dcd9d1; --link: #0b4fa8; --mark: #8a1c1c }\n@media (prefers-color-scheme: dark) {\n  :root { --paper: #15171b; --ink: #e9e8e4; --soft: #a3a6ae; --line: #343840; --link: #8fbcff; --mark: #ff9d94 }\n}\n* { box-sizing: border-box }\nbody { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, \"Segoe UI\", Roboto, \"Noto Sans\", sans-serif; overflow-wrap: anywhere }\nmain { max-width: 46rem; margin: 0 auto; padding: clamp(1.5rem, 6vw, 4.5rem) clamp(1.1rem, 5vw, 2rem) }\n.status { margin: 0 0 .5rem; color: var(--mark); font-weight: 600; letter-spacing: .04em }\nh1 { margin: 0 0 1.1rem; font-size: clamp(1.7rem, 5vw, 2.2rem); line-height: 1.18; letter-spacing: -.01em; text-wrap: balance }\n.lead { margin: 0; font-size: 1.12rem }\nsection { margin-top: 2.4rem; padding-top: 1.5rem; border-top: 1px solid var(--line) }\nh2 { margin: 0 0 1rem; font-size: 1.2rem; line-height: 1.3 }\ndl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .6rem 1.75rem; margin: 0 }\ndt { color: var(--soft) }\ndd { margin: 0 }\na { color: var(--link); text-underline-offset: .15em }\na:focus-visible { outline: 2px solid; outline-offset: 3px }\nfooter { margin-top: 2.4rem; padding-top: 1.5rem; border-top: 1px solid var(--line); color: var(--soft) }\nfooter p { margin: 0 0 .4rem }\n@media (max-width: 34rem) {\n  dl { display: block }\n  dt { font-size: .9rem }\n  dd { margin: 0 0 .9rem }\n}\n@media print { body { background: #fff; color: #000 } main { padding: 0 } }\n</style>\n</head>\n<body>\n<main>\n<header>\n<p class=\"status\">HTTP 451</p>\n<h1>Unavailable for legal reasons</h1>\n<p class=\"lead\">Several legal decisions require the operator of this service to prevent access to <strong><bdi>", 3, "</bdi></strong> and <strong><bdi>", 2, "</bdi></strong> for the users described below.</p>\n</header>\n<section aria-labelledby=\"order-1\">\n<h2 id=\"order-1\"><bdi>Tribunal judiciaire de Paris</bdi></h2>\n<dl>\n<dt>Decision</dt>\n<dd><bdi>Tribunal judiciaire de Paris, 28 March 2025</bdi></dd>\n<dt>At the request of</dt>\n<dd><bdi>SECP</bdi></dd>\n<dt>Legal basis</dt>\n<dd><bdi>Code du sport, art. L. 333-10</bdi></dd>\n<dt>Name concerned</dt>\n<dd><bdi>", 3, "</bdi></dd>\n<dt>Users concerned</dt>\n<dd><bdi>Those who connect from France, French Guiana, Guadeloupe, Martinique, New Caledonia, R\195\169union, French Southern and Antarctic Lands, Wallis and Futuna and Mayotte</bdi></dd>\n<dt>Until</dt>\n<dd><bdi>31 December 2035, 24:00 (Europe/Paris, UTC+01:00)</bdi></dd>\n<dt>Reference</dt>\n<dd><bdi>one</bdi></dd>\n</dl>\n</section>\n<section aria-labelledby=\"order-2\">\n<h2 id=\"order-2\"><bdi>Tribunal judiciaire de Paris</bdi></h2>\n<dl>\n<dt>Decision</dt>\n<dd><bdi>Tribunal judiciaire de Paris, 28 March 2025</bdi></dd>\n<dt>At the request of</dt>\n<dd><bdi>SECP</bdi></dd>\n<dt>Legal basis</dt>\n<dd><bdi>Code du sport, art. L. 333-10</bdi></dd>\n<dt>Name concerned</dt>\n<dd><bdi>", 2, "</bdi></dd>\n<dt>Users concerned</dt>\n<dd><bdi>Those who connect from France and R\195\169union</bdi></dd>\n<dt>Until</dt>\n<dd><bdi>31 December 2035, 24:00 (Europe/Paris, UTC+01:00)</bdi></dd>\n<dt>Reference</dt>\n<dd><bdi>two</bdi></dd>\n</dl>\n</section>\n<footer>\n<p>This measure is applied by the operator of this service: <a href=\"https://edge.example/blocked\" rel=\"noreferrer\">https://edge.example/blocked</a></p>\n<p>This notice does not say whether the page you asked for exists.</p>\n</footer>\n</main>\n</body>\n</html>\n"}, ["application/problem+json"] = {"{\n  \"type\": \"about:blank\",\n  \"title\": \"Unavailable For Legal Reasons\",\n  \"status\": 451,\n  \"detail\": \"Several legal decisions require the operator of this service to prevent access to ", 3, " and ", 2, " for the users described below.\",\n  \"operator\": \"https://edge.example/blocked\",\n  \"contact\": null,\n  \"orders\": [\n    {\n      \"id\": \"one\",\n      \"title\": null,\n      \"court\": \"Tribunal judiciaire de Paris\",\n      \"case\": null,\n      \"decided\": \"2025-03-28\",\n      \"legal_basis\": \"Code du sport, art. L. 333-10\",\n      \"claimant\": \"SECP\",\n      \"name\": \"", 3, "\",\n      \"notice\": null,\n      \"authority\": null,\n      \"territory\": [\n        \"FR\",\n        \"GF\",\n        \"GP\",\n        \"MQ\",\n        \"NC\",\n        \"RE\",\n        \"TF\",\n        \"WF\",\n        \"YT\"\n      ],\n      \"unknown_location\": \"allow\",\n      \"until\": \"2036-01-01T00:00:00+01:00\",\n      \"contact\": null,\n      \"publication\": null\n    },\n    {\n      \"id\": \"two\",\n      \"title\": null,\n      \"court\": \"Tribunal judiciaire de Paris\",\n      \"case\": null,\n      \"decided\": \"2025-03-28\",\n      \"legal_basis\": \"Code du sport, art. L. 333-10\",\n      \"claimant\": \"SECP\",\n      \"name\": \"", 2, "\",\n      \"notice\": null,\n      \"authority\": null,\n      \"territory\": [\n        \"FR\",\n        \"RE\"\n      ],\n      \"unknown_location\": \"allow\",\n      \"until\": \"2036-01-01T00:00:00+01:00\",\n      \"contact\": null,\n      \"publication\": null\n    }\n  ]\n}\n"}}, ["fr"] = {["text/plain"] = {"451 Unavailable For Legal Reasons\n\nPlusieurs d\195\169cisions imposent \195\160 l\226\128\153exploitant de ce service d\226\128\153emp\195\170cher l\226\128\153acc\195\168s \195\160\n", 3, " et ", 2, " pour les utilisateurs\nindiqu\195\169s ci-dessous.\n\nTribunal judiciaire de Paris\n  D\195\169cision             Tribunal judiciaire de Paris, 28 mars 2025\n  \195\128 la demande de      SECP\n  Fondement juridique  Code du sport, art. L. 333-10\n  Nom vis\195\169             ", 3, "\n  Utilisateurs vis\195\169s   Ceux qui se connectent depuis les territoires\n                       suivants\194\160: France, Guyane, Guadeloupe, Martinique,\n                       Nouvelle-Cal\195\169donie, La R\195\169union, Terres australes et\n                       antarctiques fran\195\167aises, Wallis-et-Futuna et Mayotte\n  Jusqu\226\128\153au             31 d\195\169cembre 2035 \195\160 24 h 00 (Europe/Paris, UTC+01:00)\n  R\195\169f\195\169rence            one\n\nTribunal judiciaire de Paris\n  D\195\169cision             Tribunal judiciaire de Paris, 28 mars 2025\n  \195\128 la demande de      SECP\n  Fondement juridique  Code du sport, art. L. 333-10\n  Nom vis\195\169             ", 2, "\n  Utilisateurs vis\195\169s   Ceux qui se connectent depuis les territoires\n                       suivants\194\160: France et La R\195\169union\n  Jusqu\226\128\153au             31 d\195\169cembre 2035 \195\160 24 h 00 (Europe/Paris, UTC+01:00)\n  R\195\169f\195\169rence            two\n\nCette mesure est appliqu\195\169e par l\226\128\153exploitant de ce service\194\160:\nhttps://edge.example/blocked\n\nCe message n\226\128\153indique pas si la page demand\195\169e existe.\n"}, ["text/html"] = {"<!doctype html>\n<html lang=\"fr\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"robots\" content=\"noindex\">\n<title>451 \226\128\147 Indisponible pour raisons l\195\169gales</title>\n<style>\n:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #1c1d21; --soft: #5b5e68; --line: #dcd9d1; --link: #0b4fa8; --mark: #8a1c1c }\n@media (prefers-color-scheme: dark) {\n  :root { --paper: #15171b; --ink: #e9e8e4; --soft: #a3a6ae; --line: #343840; --link: #8fbcff; --mark: #ff9d94 }\n}\n* { box-sizing: border-box }\nbody { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, \"Segoe UI\", Roboto, \"Noto Sans\", sans-serif; overflow-wrap: anywhere }\nmain { max-width: 46rem; margin: 0 auto; padding: clamp(1.5rem, 6vw, 4.5rem) clamp(1.1rem, 5vw, 2rem) }\n.status { margin: 0 0 .5rem; color: var(--mark); font-weight: 600; letter-spacing: .04em }\nh1 { margin: 0 0 1.1rem; font-size: clamp(1.7rem, 5vw, 2.2rem); line-height: 1.18; letter-spacing: -.01em; text-wrap: balance }\n.lead { margin: 0; font-size: 1.12rem }\nsection { margin-top: 2.4rem; padding-top: 1.5rem; border-top: 1px solid var(--line) }\nh2 { margin: 0 0 1rem; font-size: 1.2rem; line-height: 1.3 }\ndl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .6rem 1.75rem; margin: 0 }\ndt { color: var(--soft) }\ndd { margin: 0 }\na { color: var(--link); text-underline-offset: .15em }\na:focus-visible { outline: 2px solid; outline-offset: 3px }\nfooter { margin-top: 2.4rem; padding-top: 1.5rem; border-top: 1px solid var(--line); color: var(--soft) }\nfooter p { margin: 0 0 .4rem }\n@media (max-width: 34rem) {\n  dl { display: block }\n  dt { font-size: .9rem }\n  dd { margin: 0 0 .9rem }\n}\n@media print { body { background: #fff; color: #000 } main { padding: 0 } }\n</style>\n</head>\n<body>\n<main>\n<header>\n<p class=\"status\">HTTP 451</p>\n<h1>Indisponible pour raisons l\195\169gales</h1>\n<p class=\"lead\">Plusieurs d\195\169cisions imposent \195\160 l\226\128\153exploitant de ce service d\226\128\153emp\195\170cher l\226\128\153acc\195\168s \195\160 <strong><bdi>", 3, "</bdi></strong> et <strong><bdi>", 2, "</bdi></strong> pour les utilisateurs indiqu\195\169s ci-dessous.</p>\n</header>\n<section aria-labelledby=\"order-1\">\n<h2 id=\"order-1\"><bdi>Tribunal judiciaire de Paris</bdi></h2>\n<dl>\n<dt>D\195\169cision</dt>\n<dd><bdi>Tribunal judiciaire de Paris, 28 mars 2025</bdi></dd>\n<dt>\195\128 la demande de</dt>\n<dd><bdi>SECP</bdi></dd>\n<dt>Fondement juridique</dt>\n<dd><bdi>Code du sport, art. L. 333-10</bdi></dd>\n<dt>Nom vis\195\169</dt>\n<dd><bdi>", 3, "</bdi></dd>\n<dt>Utilisateurs vis\195\169s</dt>\n<dd><bdi>Ceux qui se connectent depuis les territoires suivants\194\160: France, Guyane, Guadeloupe, Martinique, Nouvelle-Cal\195\169donie, La R\195\169union, Terres australes et antarctiques fran\195\167aises, Wallis-et-Futuna et Mayotte</bdi></dd>\n<dt>Jusqu\226\128\153au</dt>\n<dd><bdi>31 d\195\169cembre 2035 \195\160 24 h 00 (Europe/Paris, UTC+01:00)</bdi></dd>\n<dt>R\195\169f\195\169rence</dt>\n<dd><bdi>one</bdi></dd>\n</dl>\n</section>\n<section aria-labelledby=\"order-2\">\n<h2 id=\"order-2\"><bdi>Tribunal judiciaire de Paris</bdi></h2>\n<dl>\n<dt>D\195\169cision</dt>\n<dd><bdi>Tribunal judiciaire de Paris, 28 mars 2025</bdi></dd>\n<dt>\195\128 la demande de</dt>\n<dd><bdi>SECP</bdi></dd>\n<dt>Fondement juridique</dt>\n<dd><bdi>Code du sport, art. L. 333-10</bdi></dd>\n<dt>Nom vis\195\169</dt>\n<dd><bdi>", 2, "</bdi></dd>\n<dt>Utilisateurs vis\195\169s</dt>\n<dd><bdi>Ceux qui se connectent depuis les territoires suivants\194\160: France et La R\195\169union</bdi></dd>\n<dt>Jusqu\226\128\153au</dt>\n<dd><bdi>31 d\195\169cembre 2035 \195\160 24 h 00 (Europe/Paris, UTC+01:00)</bdi></dd>\n<dt>R\195\169f\195\169rence</dt>\n<dd><bdi>two</bdi></dd>\n</dl>\n</section>\n<footer>\n<p>Cette mesure est appliqu\195\169e par l\226\128\153exploitant de ce service\194\160: <a href=\"https://edge.example/blocked\" rel=\"noreferrer\">https://edge.example/blocked</a></p>\n<p>Ce message n\226\128\153indique pas si la page demand\195\169e existe.</p>\n</footer>\n</main>\n</body>\n</html>\n"}, ["application/problem+json"] = {"{\n  \"type\": \"about:blank\",\n  \"title\": \"Unavailable For Legal Reasons\",\n  \"status\": 451,\n  \"detail\": \"Plusieurs d\195\169cisions imposent \195\160 l\226\128\153exploitant de ce service d\226\128\153emp\195\170cher l\226\128\153acc\195\168s \195\160 ", 3, " et ", 2, " pour les utilisateurs indiqu\195\169s ci-dessous.\",\n  \"operator\": \"https://edge.example/blocked\",\n  \"contact\": null,\n  \"orders\": [\n    {\n      \"id\": \"one\",\n      \"title\": null,\n      \"court\": \"Tribunal judiciaire de Paris\",\n      \"case\": null,\n      \"decided\": \"2025-03-28\",\n      \"legal_basis\": \"Code du sport, art. L. 333-10\",\n      \"claimant\": \"SECP\",\n      \"name\": \"", 3, "\",\n      \"notice\": null,\n      \"authority\": null,\n      \"territory\": [\n        \"FR\",\n        \"GF\",\n        \"GP\",\n        \"MQ\",\n        \"NC\",\n        \"RE\",\n        \"TF\",\n        \"WF\",\n        \"YT\"\n      ],\n      \"unknown_location\": \"allow\",\n      \"until\": \"2036-01-01T00:00:00+01:00\",\n      \"contact\": null,\n      \"publication\": null\n    },\n    {\n      \"id\": \"two\",\n      \"title\": null,\n      \"court\": \"Tribunal judiciaire de Paris\",\n      \"case\": null,\n      \"decided\": \"2025-03-28\",\n      \"legal_basis\": \"Code du sport, art. L. 333-10\",\n      \"claimant\": \"SECP\",\n      \"name\": \"", 2, "\",\n      \"notice\": null,\n      \"authority\": null,\n      \"territory\": [\n        \"FR\",\n        \"RE\"\n      ],\n      \"unknown_location\": \"allow\",\n      \"until\": \"2036-01-01T00:00:00+01:00\",\n      \"contact\": null,\n      \"publication\": null\n    }\n  ]\n}\n"}}}, ["oa03eb52193"] = {["en"] = {["text/plain"] = {"451 Unavailable For Legal Reasons\n\nA legal decision requires the operator of this service to prevent access to\n", 2, " for the users described below.\n\nTribunal judiciaire de Paris\n  Decision           Tribunal judiciaire de Paris, 28 March 2025\n  At the request of  SECP\n  Legal basis        Code du sport, art. L. 333-10\n  Name concerned     ", 2, "\n  Users concerned    Those who connect from France and R\195\169union\n  Until              31 December 2035, 24:00 (Europe/Paris, UTC+01:00)\n  Reference          two\n\nThis measure is applied by the operator of this service:\nhttps://edge.example/blocked\n\nThis notice does not say whether the page you asked for exists.\n"}, ["text/html"] = {"<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"robots\" content=\"noindex\">\n<title>451 \226\128\147 Unavailable for legal reasons</title>\n<style>\n:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #1c1d21; --soft: #5b5e68; --line: #dcd9d1; --link: #0b4fa8; --mark: #8a1c1c }\n@media (prefers-color-scheme: dark) {\n  :root { --paper: #15171b; --ink: #e9e8e4; --soft: #a3a6ae; --line: #343840; --link: #8fbcff; --mark: #ff9d94 }\n}\n* { box-sizing: border-box }\nbody { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, \"Segoe UI\", Roboto, \"Noto Sans\", sans-serif; overflow-wrap: anywhere }\nmain { max-width: 46rem; margin: 0 auto; padding: clamp(1.5rem, 6vw, 4.5rem) clamp(1.1rem, 5vw, 2rem) }\n.status { margin: 0 0 .5rem; color: var(--mark); font-weight: 600; letter-spacing: .04em }\nh1 { margin: 0 0 1.1rem; font-size: clamp(1.7rem, 5vw, 2.2rem); line-height: 1.18; letter-spacing: -.01em; text-wrap: balance }\n.lead { margin: 0; font-size: 1.12rem }\nsection { margin-top: 2.4rem; padding-top: 1.5rem; border-top: 1px solid var(--line) }\nh2 { margin: 0 0 1rem; font-size: 1.2rem; line-height: 1.3 }\ndl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .6rem 1.75rem; margin: 0 }\ndt { color: var(--soft) }\ndd { margin: 0 }\na { color: var(--link); text-underline-offset: .15em }\na:focus-visible { outline: 2px solid; outline-offset: 3px }\nfooter { margin-top: 2.4rem; padding-top: 1.5rem; border-top: 1px solid var(--line); color: var(--soft) }\nfooter p { margin: 0 0 .4rem }\n@media (max-width: 34rem) {\n  dl { display: block }\n  dt { font-size: .9rem }\n  dd { margin: 0 0 .9rem }\n}\n@media print { body { background: #fff; color: #000 } main { padding: 0 } }\n</style>\n</head>\n<body>\n<main>\n<header>\n<p class=\"status\">HTTP 451</p>\n<h1>Unavailable for legal reasons</h1>\n<p class=\"lead\">A legal decision requires the operator of this service to prevent access to <strong><bdi>", 2, "</bdi></strong> for the users described below.</p>\n</header>\n<section aria-labelledby=\"order-1\">\n<h2 id=\"order-1\"><bdi>Tribunal judiciaire de Paris</bdi></h2>\n<dl>\n<dt>Decision</dt>\n<dd><bdi>Tribunal judiciaire de Paris, 28 March 2025</bdi></dd>\n<dt>At the request of</dt>\n<dd><bdi>SECP</bdi></dd>\n<dt>Legal basis</dt>\n<dd><bdi>Code du sport, art. L. 333-10</bdi></dd>\n<dt>Name concerned</dt>\n<dd><bdi>", 2, "</bdi></dd>\n<dt>Users concerned</dt>\n<dd><bdi>Those who connect from France and R\195\169union</bdi></dd>\n<dt>Until</dt>\n<dd><bdi>31 December 2035, 24:00 (Europe/Paris, UTC+01:00)</bdi></dd>\n<dt>Reference</dt>\n<dd><bdi>two</bdi></dd>\n</dl>\n</section>\n<footer>\n<p>This measure is applied by the operator of this service: <a href=\"https://edge.example/blocked\" rel=\"noreferrer\">https://edge.example/blocked</a></p>\n<p>This notice does not say whether the page you asked for exists.</p>\n</footer>\n</main>\n</body>\n</html>\n"}, ["application/problem+json"] = {"{\n  \"type\": \"about:blank\",\n  \"title\": \"Unavailable For Legal Reasons\",\n  \"status\": 451,\n  \"detail\": \"A legal decision requires the operator of this service to prevent access to ", 2, " for the users described below.\",\n  \"operator\": \"https://edge.example/blocked\",\n  \"contact\": null,\n  \"orders\": [\n    {\n      \"id\": \"two\",\n      \"title\": null,\n      \"court\": \"Tribunal judiciaire de Paris\",\n      \"case\": null,\n      \"decided\": \"2025-03-28\",\n      \"legal_basis\": \"Code du sport, art. L. 333-10\",\n      \"claimant\": \"SECP\",\n      \"name\": \"", 2, "\",\n      \"notice\": null,\n      \"authority\": null,\n      \"territory\": [\n        \"FR\",\n        \"RE\"\n      ],\n      \"unknown_location\": \"allow\",\n      \"until\": \"2036-01-01T00:00:00+01:00\",\n      \"contact\": null,\n      \"publication\": null\n    }\n  ]\n}\n"}}, ["fr"] = {["text/plain"] = {"451 Unavailable For Legal Reasons\n\nUne d\195\169cision impose \195\160 l\226\128\153exploitant de ce service d\226\128\153emp\195\170cher l\226\128\153acc\195\168s \195\160\n", 2, " pour les utilisateurs indiqu\195\169s ci-dessous.\n\nTribunal judiciaire de Paris\n  D\195\169cision             Tribunal judiciaire de Paris, 28 mars 2025\n  \195\128 la demande de      SECP\n  Fondement juridique  Code du sport, art. L. 333-10\n  Nom vis\195\169             ", 2, "\n  Utilisateurs vis\195\169s   Ceux qui se connectent depuis les territoires\n                       suivants\194\160: France et La R\195\169union\n  Jusqu\226\128\153au             31 d\195\169cembre 2035 \195\160 24 h 00 (Europe/Paris, UTC+01:00)\n  R\195\169f\195\169rence            two\n\nCette mesure est appliqu\195\169e par l\226\128\153exploitant de ce service\194\160:\nhttps://edge.example/blocked\n\nCe message n\226\128\153indique pas si la page demand\195\169e existe.\n"}, ["text/html"] = {"<!doctype html>\n<html lang=\"fr\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"robots\" content=\"noindex\">\n<title>451 \226\128\147 Indisponible pour raisons l\195\169gales</title>\n<style>\n:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #1c1d21; --soft: #5b5e68; --line: #dcd9d1; --link: #0b4fa8; --mark: #8a1c1c }\n@media (prefers-color-scheme: dark) {\n  :root { --paper: #15171b; --ink: #e9e8e4; --soft: #a3a6ae; --line: #343840; --link: #8fbcff; --mark: #ff9d94 }\n}\n* { box-sizing: border-box }\nbody { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, \"Segoe UI\", Roboto, \"Noto Sans\", sans-serif; overflow-wrap: anywhere }\nmain { max-width: 46rem; margin: 0 auto; padding: clamp(1.5rem, 6vw, 4.5rem) clamp(1.1rem, 5vw, 2rem) }\n.status { margin: 0 0 .5rem; color: var(--mark); font-weight: 600; letter-spacing: .04em }\nh1 { margin: 0 0 1.1rem; font-size: clamp(1.7rem, 5vw, 2.2rem); line-height: 1.18; letter-spacing: -.01em; text-wrap: balance }\n.lead { margin: 0; font-size: 1.12rem }\nsection { margin-top: 2.4rem; padding-top: 1.5rem; border-top: 1px solid var(--line) }\nh2 { margin: 0 0 1rem; font-size: 1.2rem; line-height: 1.3 }\ndl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .6rem 1.75rem; margin: 0 }\ndt { color: var(--soft) }\ndd { margin: 0 }\na { color: var(--link); text-underline-offset: .15em }\na:focus-visible { outline: 2px solid; outline-offset: 3px }\nfooter { margin-top: 2.4rem; padding-top: 1.5rem; border-top: 1px solid var(--line); color: var(--soft) }\nfooter p { margin: 0 0 .4rem }\n@media (max-width: 34rem) {\n  dl { display: block }\n  dt { font-size: .9rem }\n  dd { margin: 0 0 .9rem }\n}\n@media print { body { background: #fff; color: #000 } main { padding: 0 } }\n</style>\n</head>\n<body>\n<main>\n<header>\n<p class=\"status\">HTTP 451</p>\n<h1>Indisponible pour raisons l\195\169gales</h1>\n<p class=\"lead\">Une d\195\169cision impose \195\160 l\226\128\153exploitant de ce service d\226\128\153emp\195\170cher l\226\128\153acc\195\168s \195\160 <strong><bdi>", 2, "</bdi></strong> pour les utilisateurs indiqu\195\169s ci-dessous.</p>\n</header>\n<section aria-labelledby=\"order-1\">\n<h2 id=\"order-1\"><bdi>Tribunal judiciaire de Paris</bdi></h2>\n<dl>\n<dt>D\195\169cision</dt>\n<dd><bdi>Tribunal judiciaire de Paris, 28 mars 2025</bdi></dd>\n<dt>\195\128 la demande de</dt>\n<dd><bdi>SECP</bdi></dd>\n<dt>Fondement juridique</dt>\n<dd><bdi>Code du sport, art. L. 333-10</bdi></dd>\n<dt>Nom vis\195\169</dt>\n<dd><bdi>", 2, "</bdi></dd>\n<dt>Utilisateurs vis\195\169s</dt>\n<dd><bdi>Ceux qui se connectent depuis les territoires suivants\194\160: France et La R\195\169union</bdi></dd>\n<dt>Jusqu\226\128\153au</dt>\n<dd><bdi>31 d\195\169cembre 2035 \195\160 24 h 00 (Europe/Paris, UTC+01:00)</bdi></dd>\n<dt>R\195\169f\195\169rence</dt>\n<dd><bdi>two</bdi></dd>\n</dl>\n</section>\n<footer>\n<p>Cette mesure est appliqu\195\169e par l\226\128\153exploitant de ce service\194\160: <a href=\"https://edge.example/blocked\" rel=\"noreferrer\">https://edge.example/blocked</a></p>\n<p>Ce message n\226\128\153indique pas si la page demand\195\169e existe.</p>\n</footer>\n</main>\n</body>\n</html>\n"}, ["application/problem+json"] = {"{\n  \"type\": \"about:blank\",\n  \"title\": \"Unavailable For Legal Reasons\",\n  \"status\": 451,\n  \"detail\": \"Une d\195\169cision impose \195\160 l\226\128\153exploitant de ce service d\226\128\153emp\195\170cher l\226\128\153acc\195\168s \195\160 ", 2, " pour les utilisateurs indiqu\195\169s ci-dessous.\",\n  \"operator\": \"https://edge.example/blocked\",\n  \"contact\": null,\n  \"orders\": [\n    {\n      \"id\": \"two\",\n      \"title\": null,\n      \"court\": \"Tribunal judiciaire de Paris\",\n      \"case\": null,\n      \"decided\": \"2025-03-28\",\n      \"legal_basis\": \"Code du sport, art. L. 333-10\",\n      \"claimant\": \"SECP\",\n      \"name\": \"", 2, "\",\n      \"notice\": null,\n      \"authority\": null,\n      \"territory\": [\n        \"FR\",\n        \"RE\"\n      ],\n      \"unknown_location\": \"allow\",\n      \"until\": \"2036-01-01T00:00:00+01:00\",\n      \"contact\": null,\n      \"publication\": null\n    }\n  ]\n}\n"}}}, ["obb9c73ed8f"] = {["en"] = {["text/plain"] = {"451 Unavailable For Legal Reasons\n\nA legal decision requires the operator of this service to prevent access to\n", 2, " for the users described below.\n\nTribunal judiciaire de Paris\n  Decision           Tribunal judiciaire de Paris, 28 March 2025\n  At the request of  SECP\n  Legal basis        Code du sport, art. L. 333-10\n  Name concerned     ", 2, "\n  Users concerned    Those who connect from France, French Guiana, Guadeloupe,\n                     Martinique, New Caledonia, R\195\169union, French Southern and\n                     Antarctic Lands, Wallis and Futuna and Mayotte\n  Until              31 December 2035, 24:00 (Europe/Paris, UTC+01:00)\n  Reference          one\n\nThis measure is applied by the operator of this service:\nhttps://edge.example/blocked\n\nThis notice does not say whether the page you asked for exists.\n"}, ["text/html"] = {"<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"robots\" content=\"noindex\">\n<title>451 \226\128\147 Unavailable for legal reasons</title>\n<style>\n:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #1c1d21; --soft: #5b5e68; --line: #dcd9d1; --link: #0b4fa8; --mark: #8a1c1c }\n@media (prefers-color-scheme: dark) {\n  :root { --paper: #15171b; --ink: #e9e8e4; --soft: #a3a6ae; --line: #343840; --link: #8fbcff; --mark: #ff9d94 }\n}\n* { box-sizing: border-box }\nbody { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, \"Segoe UI\", Roboto, \"Noto Sans\", sans-serif; overflow-wrap: anywhere }\nmain { max-width: 46rem; margin: 0 auto; padding: clamp(1.5rem, 6vw, 4.5rem) clamp(1.1rem, 5vw, 2rem) }\n.status { margin: 0 0 .5rem; color: var(--mark); font-weight: 600; letter-spacing: .04em }\nh1 { margin: 0 0 1.1rem; font-size: clamp(1.7rem, 5vw, 2.2rem); line-height: 1.18; letter-spacing: -.01em; text-wrap: balance }\n.lead { margin: 0; font-size: 1.12rem }\nsection { margin-top: 2.4rem; padding-top: 1.5rem; border-top: 1px solid var(--line) }\nh2 { margin: 0 0 1rem; font-size: 1.2rem; line-height: 1.3 }\ndl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .6rem 1.75rem; margin: 0 }\ndt { color: var(--soft) }\ndd { margin: 0 }\na { color: var(--link); text-underline-offset: .15em }\na:focus-visible { outline: 2px solid; outline-offset: 3px }\nfooter { margin-top: 2.4rem; padding-top: 1.5rem; border-top: 1px solid var(--line); color: var(--soft) }\nfooter p { margin: 0 0 .4rem }\n@media (max-width: 34rem) {\n  dl { display: block }\n  dt { font-size: .9rem }\n  dd { margin: 0 0 .9rem }\n}\n@media print { body { background: #fff; color: #000 } main { padding: 0 } }\n</style>\n</head>\n<body>\n<main>\n<header>\n<p class=\"status\">HTTP 451</p>\n<h1>Unavailable for legal reasons</h1>\n<p class=\"lead\">A legal decision requires the operator of this service to prevent access to <strong><bdi>", 2, "</bdi></strong> for the users described below.</p>\n</header>\n<section aria-labelledby=\"order-1\">\n<h2 id=\"order-1\"><bdi>Tribunal judiciaire de Paris</bdi></h2>\n<dl>\n<dt>Decision</dt>\n<dd><bdi>Tribunal judiciaire de Paris, 28 March 2025</bdi></dd>\n<dt>At the request of</dt>\n<dd><bdi>SECP</bdi></dd>\n<dt>Legal basis</dt>\n<dd><bdi>Code du sport, art. L. 333-10</bdi></dd>\n<dt>Name concerned</dt>\n<dd><bdi>", 2, "</bdi></dd>\n<dt>Users concerned</dt>\n<dd><bdi>Those who connect from France, French Guiana, Guadeloupe, Martinique, New Caledonia, R\195\169union, French Southern and Antarctic Lands, Wallis and Futuna and Mayotte</bdi></dd>\n<dt>Until</dt>\n<dd><bdi>31 December 2035, 24:00 (Europe/Paris, UTC+01:00)</bdi></dd>\n<dt>Reference</dt>\n<dd><bdi>one</bdi></dd>\n</dl>\n</section>\n<footer>\n<p>This measure is applied by the operator of this service: <a href=\"https://edge.example/blocked\" rel=\"noreferrer\">https://edge.example/blocked</a></p>\n<p>This notice does not say whether the page you asked for exists.</p>\n</footer>\n</main>\n</body>\n</html>\n"}, ["application/problem+json"] = {"{\n  \"type\": \"about:blank\",\n  \"title\": \"Unavailable For Legal Reasons\",\n  \"status\": 451,\n  \"detail\": \"A legal decision requires the operator of this service to prevent access to ", 2, " for the users described below.\",\n  \"operator\": \"https://edge.example/blocked\",\n  \"contact\": null,\n  \"orders\": [\n    {\n      \"id\": \"one\",\n      \"title\": null,\n      \"court\": \"Tribunal judiciaire de Paris\",\n      \"case\": null,\n      \"decided\": \"2025-03-28\",\n      \"legal_basis\": \"Code du sport, art. L. 333-10\",\n      \"claimant\": \"SECP\",\n      \"name\": \"", 2, "\",\n      \"notice\": null,\n      \"authority\": null,\n      \"territory\": [\n        \"FR\",\n        \"GF\",\n        \"GP\",\n        \"MQ\",\n        \"NC\",\n        \"RE\",\n        \"TF\",\n        \"WF\",\n        \"YT\"\n      ],\n      \"unknown_location\": \"allow\",\n      \"until\": \"2036-01-01T00:00:00+01:00\",\n      \"contact\": null,\n      \"publication\": null\n    }\n  ]\n}\n"}}, ["fr"] = {["text/plain"] = {"451 Unavailable For Legal Reasons\n\nUne d\195\169cision impose \195\160 l\226\128\153exploitant de ce service d\226\128\153emp\195\170cher l\226\128\153acc\195\168s \195\160\n", 2, " pour les utilisateurs indiqu\195\169s ci-dessous.\n\nTribunal judiciaire de Paris\n  D\195\169cision             Tribunal judiciaire de Paris, 28 mars 2025\n  \195\128 la demande de      SECP\n  Fondement juridique  Code du sport, art. L. 333-10\n  Nom vis\195\169             ", 2, "\n  Utilisateurs vis\195\169s   Ceux qui se connectent depuis les territoires\n                       suivants\194\160: France, Guyane, Guadeloupe, Martinique,\n                       Nouvelle-Cal\195\169donie, La R\195\169union, Terres australes et\n                       antarctiques fran\195\167aises, Wallis-et-Futuna et Mayotte\n  Jusqu\226\128\153au             31 d\195\169cembre 2035 \195\160 24 h 00 (Europe/Paris, UTC+01:00)\n  R\195\169f\195\169rence            one\n\nCette mesure est appliqu\195\169e par l\226\128\153exploitant de ce service\194\160:\nhttps://edge.example/blocked\n\nCe message n\226\128\153indique pas si la page demand\195\169e existe.\n"}, ["text/html"] = {"<!doctype html>\n<html lang=\"fr\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"robots\" content=\"noindex\">\n<title>451 \226\128\147 Indisponible pour raisons l\195\169gales</title>\n<style>\n:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #1c1d21; --soft: #5b5e68; --line: #dcd9d1; --link: #0b4fa8; --mark: #8a1c1c }\n@media (prefers-color-scheme: dark) {\n  :root { --paper: #15171b; --ink: #e9e8e4; --soft: #a3a6ae; --line: #343840; --link: #8fbcff; --mark: #ff9d94 }\n}\n* { box-sizing: border-box }\nbody { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, \"Segoe UI\", Roboto, \"Noto Sans\", sans-serif; overflow-wrap: anywhere }\nmain { max-width: 46rem; margin: 0 auto; padding: clamp(1.5rem, 6vw, 4.5rem) clamp(1.1rem, 5vw, 2rem) }\n.status { margin: 0 0 .5rem; color: var(--mark); font-weight: 600; letter-spacing: .04em }\nh1 { margin: 0 0 1.1rem; font-size: clamp(1.7rem, 5vw, 2.2rem); line-height: 1.18; letter-spacing: -.01em; text-wrap: balance }\n.lead { margin: 0; font-size: 1.12rem }\nsection { margin-top: 2.4rem; padding-top: 1.5rem; border-top: 1px solid var(--line) }\nh2 { margin: 0 0 1rem; font-size: 1.2rem; line-height: 1.3 }\ndl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .6rem 1.75rem; margin: 0 }\ndt { color: var(--soft) }\ndd { margin: 0 }\na { color: var(--link); text-underline-offset: .15em }\na:focus-visible { outline: 2px solid; outline-offset: 3px }\nfooter { margin-top: 2.4rem; padding-top: 1.5rem; border-top: 1px solid var(--line); color: var(--soft) }\nfooter p { margin: 0 0 .4rem }\n@media (max-width: 34rem) {\n  dl { display: block }\n  dt { font-size: .9rem }\n  dd { margin: 0 0 .9rem }\n}\n@media print { body { background: #fff; color: #000 } main { padding: 0 } }\n</style>\n</head>\n<body>\n<main>\n<header>\n<p class=\"status\">HTTP 451</p>\n<h1>Indisponible pour raisons l\195\169gales</h1>\n<p class=\"lead\">Une d\195\169cision impose \195\160 l\226\128\153exploitant de ce service d\226\128\153emp\195\170cher l\226\128\153acc\195\168s \195\160 <strong><bdi>", 2, "</bdi></strong> pour les utilisateurs indiqu\195\169s ci-dessous.</p>\n</header>\n<section aria-labelledby=\"order-1\">\n<h2 id=\"order-1\"><bdi>Tribunal judiciaire de Paris</bdi></h2>\n<dl>\n<dt>D\195\169cision</dt>\n<dd><bdi>Tribunal judiciaire de Paris, 28 mars 2025</bdi></dd>\n<dt>\195\128 la demande de</dt>\n<dd><bdi>SECP</bdi></dd>\n<dt>Fondement juridique</dt>\n<dd><bdi>Code du sport, art. L. 333-10</bdi></dd>\n<dt>Nom vis\195\169</dt>\n<dd><bdi>", 2, "</bdi></dd>\n<dt>Utilisateurs vis\195\169s</dt>\n<dd><bdi>Ceux qui se connectent depuis les territoires suivants\194\160: France, Guyane, Guadeloupe, Martinique, Nouvelle-Cal\195\169donie, La R\195\169union, Terres australes et antarctiques fran\195\167aises, Wallis-et-Futuna et Mayotte</bdi></dd>\n<dt>Jusqu\226\128\153au</dt>\n<dd><bdi>31 d\195\169cembre 2035 \195\160 24 h 00 (Europe/Paris, UTC+01:00)</bdi></dd>\n<dt>R\195\169f\195\169rence</dt>\n<dd><bdi>one</bdi></dd>\n</dl>\n</section>\n<footer>\n<p>Cette mesure est appliqu\195\169e par l\226\128\153exploitant de ce service\194\160: <a href=\"https://edge.example/blocked\" rel=\"noreferrer\">https://edge.example/blocked</a></p>\n<p>Ce message n\226\128\153indique pas si la page demand\195\169e existe.</p>\n</footer>\n</main>\n</body>\n</html>\n"}, ["application/problem+json"] = {"{\n  \"type\": \"about:blank\",\n  \"title\": \"Unavailable For Legal Reasons\",\n  \"status\": 451,\n  \"detail\": \"Une d\195\169cision impose \195\160 l\226\128\153exploitant de ce service d\226\128\153emp\195\170cher l\226\128\153acc\195\168s \195\160 ", 2, " pour les utilisateurs indiqu\195\169s ci-dessous.\",\n  \"operator\": \"https://edge.example/blocked\",\n  \"contact\": null,\n  \"orders\": [\n    {\n      \"id\": \"one\",\n      \"title\": null,\n      \"court\": \"Tribunal judiciaire de Paris\",\n      \"case\": null,\n      \"decided\": \"2025-03-28\",\n      \"legal_basis\": \"Code du sport, art. L. 333-10\",\n      \"claimant\": \"SECP\",\n      \"name\": \"", 2, "\",\n      \"notice\": null,\n      \"authority\": null,\n      \"territory\": [\n        \"FR\",\n        \"GF\",\n        \"GP\",\n        \"MQ\",\n        \"NC\",\n        \"RE\",\n        \"TF\",\n        \"WF\",\n        \"YT\"\n      ],\n      \"unknown_location\": \"allow\",\n      \"until\": \"2036-01-01T00:00:00+01:00\",\n      \"contact\": null,\n      \"publication\": null\n    }\n  ]\n}\n"}}}, ["oe032d090f4"] = {["en"] = {["text/plain"] = {"451 Unavailable For Legal Reasons\n\nA legal decision requires the operator of this service to prevent access to\n", 3, " for the users described below.\n\nTribunal judiciaire de Paris\n  Decision           Tribunal judiciaire de Paris, 28 March 2025\n  At the request of  SECP\n  Legal basis        Code du sport, art. L. 333-10\n  Name concerned     ", 3, "\n  Users concerned    Those who connect from France, French Guiana, Guadeloupe,\n                     Martinique, New Caledonia, R\195\169union, French Southern and\n                     Antarctic Lands, Wallis and Futuna and Mayotte\n  Until              31 December 2035, 24:00 (Europe/Paris, UTC+01:00)\n  Reference          one\n\nThis measure is applied by the operator of this service:\nhttps://edge.example/blocked\n\nThis notice does not say whether the page you asked for exists.\n"}, ["text/html"] = {"<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"robots\" content=\"noindex\">\n<title>451 \226\128\147 Unavailable for legal reasons</title>\n<style>\n:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #1c1d21; --soft: #5b5e68; --line: #dcd9d1; --link: #0b4fa8; --mark: #8a1c1c }\n@media (prefers-color-scheme: dark) {\n  :root { --paper: #15171b; --ink: #e9e8e4; --soft: #a3a6ae; --line: #343840; --link: #8fbcff; --mark: #ff9d94 }\n}\n* { box-sizing: border-box }\nbody { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, \"Segoe UI\", Roboto, \"Noto Sans\", sans-serif; overflow-wrap: anywhere }\nmain { max-width: 46rem; margin: 0 auto; padding: clamp(1.5rem, 6vw, 4.5rem) clamp(1.1rem, 5vw, 2rem) }\n.status { margin: 0 0 .5rem; color: var(--mark); font-weight: 600; letter-spacing: .04em }\nh1 { margin: 0 0 1.1rem; font-size: clamp(1.7rem, 5vw, 2.2rem); line-height: 1.18; letter-spacing: -.01em; text-wrap: balance }\n.lead { margin: 0; font-size: 1.12rem }\nsection { margin-top: 2.4rem; padding-top: 1.5rem; border-top: 1px solid var(--line) }\nh2 { margin: 0 0 1rem; font-size: 1.2rem; line-height: 1.3 }\ndl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .6rem 1.75rem; margin: 0 }\ndt { color: var(--soft) }\ndd { margin: 0 }\na { color: var(--link); text-underline-offset: .15em }\na:focus-visible { outline: 2px solid; outline-offset: 3px }\nfooter { margin-top: 2.4rem; padding-top: 1.5rem; border-top: 1px solid var(--line); color: var(--soft) }\nfooter p { margin: 0 0 .4rem }\n@media (max-width: 34rem) {\n  dl { display: block }\n  dt { font-size: .9rem }\n  dd { margin: 0 0 .9rem }\n}\n@media print { body { background: #fff; color: #000 } main { padding: 0 } }\n</style>\n</head>\n<body>\n<main>\n<header>\n<p class=\"status\">HTTP 451</p>\n<h1>Unavailable for legal reasons</h1>\n<p class=\"lead\">A legal decision requires the operator of this service to prevent access to <strong><bdi>", 3, "</bdi></strong> for the users described below.</p>\n</header>\n<section aria-labelledby=\"order-1\">\n<h2 id=\"order-1\"><bdi>Tribunal judiciaire de Paris</bdi></h2>\n<dl>\n<dt>Decision</dt>\n<dd><bdi>Tribunal judiciaire de Paris, 28 March 2025</bdi></dd>\n<dt>At the request of</dt>\n<dd><bdi>SECP</bdi></dd>\n<dt>Legal basis</dt>\n<dd><bdi>Code du sport, art. L. 333-10</bdi></dd>\n<dt>Name concerned</dt>\n<dd><bdi>", 3, "</bdi></dd>\n<dt>Users concerned</dt>\n<dd><bdi>Those who connect from France, French Guiana, Guadeloupe, Martinique, New Caledonia, R\195\169union, French Southern and Antarctic Lands, Wallis and Futuna and Mayotte</bdi></dd>\n<dt>Until</dt>\n<dd><bdi>31 December 2035, 24:00 (Europe/Paris, UTC+01:00)</bdi></dd>\n<dt>Reference</dt>\n<dd><bdi>one</bdi></dd>\n</dl>\n</section>\n<footer>\n<p>This measure is applied by the operator of this service: <a href=\"https://edge.example/blocked\" rel=\"noreferrer\">https://edge.example/blocked</a></p>\n<p>This notice does not say whether the page you asked for exists.</p>\n</footer>\n</main>\n</body>\n</html>\n"}, ["application/problem+json"] = {"{\n  \"type\": \"about:blank\",\n  \"title\": \"Unavailable For Legal Reasons\",\n  \"status\": 451,\n  \"detail\": \"A legal decision requires the operator of this service to prevent access to ", 3, " for the users described below.\",\n  \"operator\": \"https://edge.example/blocked\",\n  \"contact\": null,\n  \"orders\": [\n    {\n      \"id\": \"one\",\n      \"title\": null,\n      \"court\": \"Tribunal judiciaire de Paris\",\n      \"case\": null,\n      \"decided\": \"2025-03-28\",\n      \"legal_basis\": \"Code du sport, art. L. 333-10\",\n      \"claimant\": \"SECP\",\n      \"name\": \"", 3, "\",\n      \"notice\": null,\n      \"authority\": null,\n      \"territory\": [\n        \"FR\",\n        \"GF\",\n        \"GP\",\n        \"MQ\",\n        \"NC\",\n        \"RE\",\n        \"TF\",\n        \"WF\",\n        \"YT\"\n      ],\n      \"unknown_location\": \"allow\",\n      \"until\": \"2036-01-01T00:00:00+01:00\",\n      \"contact\": null,\n      \"publication\": null\n    }\n  ]\n}\n"}}, ["fr"] = {["text/plain"] = {"451 Unavailable For Legal Reasons\n\nUne d\195\169cision impose \195\160 l\226\128\153exploitant de ce service d\226\128\153emp\195\170cher l\226\128\153acc\195\168s \195\160\n", 3, " pour les utilisateurs indiqu\195\169s ci-dessous.\n\nTribunal judiciaire de Paris\n  D\195\169cision             Tribunal judiciaire de Paris, 28 mars 2025\n  \195\128 la demande de      SECP\n  Fondement juridique  Code du sport, art. L. 333-10\n  Nom vis\195\169             ", 3, "\n  Utilisateurs vis\195\169s   Ceux qui se connectent depuis les territoires\n                       suivants\194\160: France, Guyane, Guadeloupe, Martinique,\n                       Nouvelle-Cal\195\169donie, La R\195\169union, Terres australes et\n                       antarctiques fran\195\167aises, Wallis-et-Futuna et Mayotte\n  Jusqu\226\128\153au             31 d\195\169cembre 2035 \195\160 24 h 00 (Europe/Paris, UTC+01:00)\n  R\195\169f\195\169rence            one\n\nCette mesure est appliqu\195\169e par l\226\128\153exploitant de ce service\194\160:\nhttps://edge.example/blocked\n\nCe message n\226\128\153indique pas si la page demand\195\169e existe.\n"}, ["text/html"] = {"<!doctype html>\n<html lang=\"fr\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"robots\" content=\"noindex\">\n<title>451 \226\128\147 Indisponible pour raisons l\195\169gales</title>\n<style>\n:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #1c1d21; --soft: #5b5e68; --line: #dcd9d1; --link: #0b4fa8; --mark: #8a1c1c }\n@media (prefers-color-scheme: dark) {\n  :root { --paper: #15171b; --ink: #e9e8e4; --soft: #a3a6ae; --line: #343840; --link: #8fbcff; --mark: #ff9d94 }\n}\n* { box-sizing: border-box }\nbody { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, \"Segoe UI\", Roboto, \"Noto Sans\", sans-serif; overflow-wrap: anywhere }\nmain { max-width: 46rem; margin: 0 auto; padding: clamp(1.5rem, 6vw, 4.5rem) clamp(1.1rem, 5vw, 2rem) }\n.status { margin: 0 0 .5rem; color: var(--mark); font-weight: 600; letter-spacing: .04em }\nh1 { margin: 0 0 1.1rem; font-size: clamp(1.7rem, 5vw, 2.2rem); line-height: 1.18; letter-spacing: -.01em; text-wrap: balance }\n.lead { margin: 0; font-size: 1.12rem }\nsection { margin-top: 2.4rem; padding-top: 1.5rem; border-top: 1px solid var(--line) }\nh2 { margin: 0 0 1rem; font-size: 1.2rem; line-height: 1.3 }\ndl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .6rem 1.75rem; margin: 0 }\ndt { color: var(--soft) }\ndd { margin: 0 }\na { color: var(--link); text-underline-offset: .15em }\na:focus-visible { outline: 2px solid; outline-offset: 3px }\nfooter { margin-top: 2.4rem; padding-top: 1.5rem; border-top: 1px solid var(--line); color: var(--soft) }\nfooter p { margin: 0 0 .4rem }\n@media (max-width: 34rem) {\n  dl { display: block }\n  dt { font-size: .9rem }\n  dd { margin: 0 0 .9rem }\n}\n@media print { body { background: #fff; color: #000 } main { padding: 0 } }\n</style>\n</head>\n<body>\n<main>\n<header>\n<p class=\"status\">HTTP 451</p>\n<h1>Indisponible pour raisons l\195\169gales</h1>\n<p class=\"lead\">Une d\195\169cision impose \195\160 l\226\128\153exploitant de ce service d\226\128\153emp\195\170cher l\226\128\153acc\195\168s \195\160 <strong><bdi>", 3, "</bdi></strong> pour les utilisateurs indiqu\195\169s ci-dessous.</p>\n</header>\n<section aria-labelledby=\"order-1\">\n<h2 id=\"order-1\"><bdi>Tribunal judiciaire de Paris</bdi></h2>\n<dl>\n<dt>D\195\169cision</dt>\n<dd><bdi>Tribunal judiciaire de Paris, 28 mars 2025</bdi></dd>\n<dt>\195\128 la demande de</dt>\n<dd><bdi>SECP</bdi></dd>\n<dt>Fondement juridique</dt>\n<dd><bdi>Code du sport, art. L. 333-10</bdi></dd>\n<dt>Nom vis\195\169</dt>\n<dd><bdi>", 3, "</bdi></dd>\n<dt>Utilisateurs vis\195\169s</dt>\n<dd><bdi>Ceux qui se connectent depuis les territoires suivants\194\160: France, Guyane, Guadeloupe, Martinique, Nouvelle-Cal\195\169donie, La R\195\169union, Terres australes et antarctiques fran\195\167aises, Wallis-et-Futuna et Mayotte</bdi></dd>\n<dt>Jusqu\226\128\153au</dt>\n<dd><bdi>31 d\195\169cembre 2035 \195\160 24 h 00 (Europe/Paris, UTC+01:00)</bdi></dd>\n<dt>R\195\169f\195\169rence</dt>\n<dd><bdi>one</bdi></dd>\n</dl>\n</section>\n<footer>\n<p>Cette mesure est appliqu\195\169e par l\226\128\153exploitant de ce service\194\160: <a href=\"https://edge.example/blocked\" rel=\"noreferrer\">https://edge.example/blocked</a></p>\n<p>Ce message n\226\128\153indique pas si la page demand\195\169e existe.</p>\n</footer>\n</main>\n</body>\n</html>\n"}, ["application/problem+json"] = {"{\n  \"type\": \"about:blank\",\n  \"title\": \"Unavailable For Legal Reasons\",\n  \"status\": 451,\n  \"detail\": \"Une d\195\169cision impose \195\160 l\226\128\153exploitant de ce service d\226\128\153emp\195\170cher l\226\128\153acc\195\168s \195\160 ", 3, " pour les utilisateurs indiqu\195\169s ci-dessous.\",\n  \"operator\": \"https://edge.example/blocked\",\n  \"contact\": null,\n  \"orders\": [\n    {\n      \"id\": \"one\",\n      \"title\": null,\n      \"court\": \"Tribunal judiciaire de Paris\",\n      \"case\": null,\n      \"decided\": \"2025-03-28\",\n      \"legal_basis\": \"Code du sport, art. L. 333-10\",\n      \"claimant\": \"SECP\",\n      \"name\": \"", 3, "\",\n      \"notice\": null,\n      \"authority\": null,\n      \"territory\": [\n        \"FR\",\n        \"GF\",\n        \"GP\",\n        \"MQ\",\n        \"NC\",\n        \"RE\",\n        \"TF\",\n        \"WF\",\n        \"YT\"\n      ],\n      \"unknown_location\": \"allow\",\n      \"until\": \"2036-01-01T00:00:00+01:00\",\n      \"contact\": null,\n      \"publication\": null\n    }\n  ]\n}\n"}}}}

-- What `cdnblock export envoy` puts below its tables: which host, whose request, and the notice of measure `proxy`.
-- Only what concerns the host is done for every request; a host that nobody names costs a checksum and three looks.

local byte, find, format, sub = string.byte, string.find, string.format, string.sub
local band, bnot, bxor, rshift = bit.band, bit.bnot, bit.bxor, bit.rshift

local DOT, SPACE, EQUALS, COLON, BRACKET = 46, 32, 61, 58, 91
local MOST_HOPS, MOST_OF_AN_ADDRESS, MOST_OF_A_NODE = 256, 100, 256
local NOWHERE = "unknown"

-- Every octet of a host in lower case; 0 for what is none of a name's
local lower = {}
for octet = 0, 255 do
  local character = string.char(octet)
  lower[octet] = character:find("^[%w._-]$") and character:lower():byte() or 0
end

local crc_of = {}
for octet = 0, 255 do
  local crc = octet
  for _ = 1, 8 do crc = band(crc, 1) == 1 and bxor(rshift(crc, 1), 0xEDB88320) or rshift(crc, 1) end
  crc_of[octet] = crc
end

-- Where a bucket begins in `names`: five digits of base 64
local function offset(bucket)
  local a, b, c, d, e = byte(buckets, bucket * 5 + 1, bucket * 5 + 5)
  return ((((a - 48) * 64 + b - 48) * 64 + c - 48) * 64 + d - 48) * 64 + e - 48 + 1
end

-- The group of the name that begins at `first`: `name=group` is for the name itself, `name group` for all below it too
local function listed(host, first, last, bucket)
  local place, stop, found = offset(bucket), offset(bucket + 1), nil
  while place < stop do
    local at = first
    while at <= last and byte(names, place) == lower[byte(host, at)] do place, at = place + 1, at + 1 end
    local mark, ending = byte(names, place), find(names, "\n", place, true)
    if at > last and (mark == SPACE or (mark == EQUALS and first == 1)) then
      found = sub(names, place + 1, ending - 1)
      if mark == EQUALS then return found end
    end
    place = ending + 1
  end
  return found
end

-- The group of the longest name that a host is, or is below; and whether it is a host at all
local function group_of(host, last)
  local crc, found = -1, nil
  for first = last, 1, -1 do
    local octet = lower[byte(host, first)]
    if octet == 0 then return nil, false end
    crc = bxor(rshift(crc, 8), crc_of[band(bxor(crc, octet), 255)])
    if first == 1 or byte(host, first - 1) == DOT then
      found = listed(host, first, last, band(bnot(crc), mask)) or found
    end
  end
  return found, last > 0
end

-- Where the name in a Host field ends: before a port, and before final dots
local function end_of_name(host)
  local last = #host
  local digits = last
  while digits > 0 and byte(host, digits) >= 48 and byte(host, digits) <= 57 do digits = digits - 1 end
  if byte(host, digits) == COLON then last = digits - 1 end
  while byte(host, last) == DOT do last = last - 1 end
  return last
end

-- Addresses are their hexadecimal digits, 8 or 32; nil is for what is no address

local function ipv4(text)
  local found = ""
  local octets = {text:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")}
  if #octets ~= 4 then return nil end
  for _, octet in ipairs(octets) do
    if #octet > 3 or tonumber(octet) > 255 or (octet:sub(1, 1) == "0" and octet ~= "0") then return nil end
    found = found .. format("%02x", tonumber(octet))
  end
  return found
end

local function hextets(text)
  local found = {}
  if text == "" then return found end
  for group in (text .. ":"):gmatch("(.-):") do
    if #group < 1 or #group > 4 then return nil end
    found[#found + 1] = ("0"):rep(4 - #group) .. group:lower()
  end
  return found
end

local function ipv6(text)
  local bare, zone = text:match("^(.-)%%(.*)$")
  if zone == "" then return nil end
  text = bare or text
  local before, dotted = text:match("^(.*:)([^:]*%.[^:]*)$")
  if before then
    local low = ipv4(dotted)
    if not low then return nil end
    text = before .. low:sub(1, 4) .. ":" .. low:sub(5)
  end
  if not text:match("^[%x:][%x:]+$") then return nil end
  local head, tail = text:match("^(.-)::(.*)$")
  local left, right = hextets(head or text), hextets(tail or "")
  if not left or not right then return nil end
  local missing = 8 - #left - #right
  if (head and missing < 1) or (not head and missing ~= 0) then return nil end
  return table.concat(left) .. ("0000"):rep(missing) .. table.concat(right)
end

local function address_of(text)
  if #text > MOST_OF_AN_ADDRESS then return nil end
  local address = text:find(":", 1, true) and ipv6(text) or ipv4(text)
  if address and address:sub(1, 24) == "00000000000000000000ffff" then return address:sub(25) end -- IPv4-mapped
  return address
end

-- One hop of X-Forwarded-For: an address, perhaps in brackets, perhaps with a port
local function node_address(node)
  if #node > MOST_OF_A_NODE then return nil end
  local inside, port = node:match("^%[(.-)%](.*)$")
  if inside then
    if not inside:find(":", 1, true) or not (port == "" or port:match("^:%d%d?%d?%d?%d?$") or port:match("^:_[%w._-]+$")) then
      return nil
    end
    return address_of(inside)
  end
  local dotted = node:match("^([^:]*%.[^:]*):%d%d?%d?%d?%d?$") or node:match("^([^:]*%.[^:]*):_[%w._-]+$")
  return address_of(dotted or node)
end

-- The client's own address, out of its tunnel: 6to4, NAT64, Teredo
local function unwrapped(address)
  if #address == 8 then return address end
  if address:sub(1, 4) == "2002" then return address:sub(5, 12) end
  if address:sub(1, 24) == "0064ff9b0000000000000000" then return address:sub(25) end
  if address:sub(1, 8) == "20010000" then return format("%08x", 0xFFFFFFFF - tonumber(address:sub(25), 16)) end
  return address
end

-- Each span is a first and a last address of as many digits as `width`, two characters that say what, and a line end
local function within(spans, width, address)
  local size = 2 * width + 3
  local low, high = 0, #spans / size
  while low < high do
    local middle = math.floor((low + high) / 2)
    if sub(spans, middle * size + 1, middle * size + width) <= address then low = middle + 1 else high = middle end
  end
  local at = (low - 1) * size
  if low == 0 or address > sub(spans, at + width + 1, at + 2 * width) then return nil end
  return sub(spans, at + 2 * width + 1, at + 2 * width + 2)
end

local function is_trusted(address)
  if #address == 8 then return within(trusted_ipv4, 8, address) ~= nil end
  return within(trusted_ipv6, 32, address) ~= nil
end

-- From the right: the first address that no trusted proxy has. What one of them wrote and cannot be read hides the client.
local function client_of(peer, chain)
  local client, hops = node_address(peer), 0
  if not client or not is_trusted(client) or not chain then return client end
  local ending = #chain
  for place = #chain, 0, -1 do
    if place == 0 or byte(chain, place) == 44 then
      local node = chain:sub(place + 1, ending):match("^[ \t]*(.-)[ \t]*$")
      ending = place - 1
      if node ~= "" then
        hops, client = hops + 1, node_address(node)
        if not client or hops > MOST_HOPS then return nil end
        if not is_trusted(client) then return client end
      end
    end
  end
  return client
end

local function place_of(client)
  if not client then return NOWHERE end
  local address, place = unwrapped(client), nil
  if #address == 8 then
    place = within(ipv4_spans, 8, address)
  else
    local network = address:sub(1, 16)
    if network == "0000000000000000" or network == "0064ff9b00000000" then return NOWHERE end
    place = within(ipv6_spans, 16, network)
  end
  if place == "--" then return NOWHERE end
  return place or "other"
end

-- What a client reads, by what it says; and names cut into labels. Part of the programs for HAProxy and for Envoy.

local MOST_OF_A_FIELD, MOST_RANGES = 2000, 64

local function split(text, separator)
  local found = {}
  for part in (text .. separator):gmatch("(.-)%" .. separator) do found[#found + 1] = part end
  return found
end

-- Without the blanks around it. No pattern here tries a long run of anything again from each place in it.
local function trimmed(text)
  local from = text:find("[^ \t]")
  return from and text:match("^.*[^ \t]", from) or ""
end

-- RFC 9110 §12.4.2; nil for a weight that is none
local function quality(parameters)
  for _, parameter in ipairs(parameters) do
    local value = trimmed(parameter):match("^[qQ][ \t]*=(.*)$")
    if value then
      value = trimmed(value)
      local one, zero = value:match("^1$") or value:match("^1%.0?0?0?$"), value:match("^0$") or value:match("^0%.%d?%d?%d?$")
      return (one or zero) and tonumber(value) or nil
    end
  end
  return 1.0
end

local function ranges(text)
  local found = {}
  for place, item in ipairs(split((text or ""):sub(1, MOST_OF_A_FIELD), ",")) do
    if place > MOST_RANGES then break end
    local parameters = split(item, ";")
    local name = trimmed(table.remove(parameters, 1)):lower()
    local weight = quality(parameters)
    if name ~= "" and weight then found[#found + 1] = {name = name, quality = weight} end
  end
  return found
end

local function contains(list, wanted)
  for _, item in ipairs(list) do if item == wanted then return true end end
  return false
end

-- Lookup, RFC 4647 §3.4: `fr-CA` asks for `fr`
local function chosen_language(text, spoken, default)
  local best, best_quality, refused = nil, 0, {}
  for _, range in ipairs(ranges(text)) do
    local language = range.name:match("^[^-]*")
    if range.quality == 0 then refused[range.name] = true end
    if range.quality > best_quality and contains(spoken, language) then best, best_quality = language, range.quality end
  end
  if best then return best end
  if not refused[default] then return default end
  for _, language in ipairs(spoken) do if not refused[language] then return language end end
  return default
end

-- RFC 9110 §12.5.1: by quality, then exactness, then what is named first, then ours by their order
local function chosen_type(text, offers, meant_by)
  local asked, best, best_rating = ranges(text), offers[1], nil
  for _, range in ipairs(asked) do range.name = meant_by(range.name) or range.name end
  for _, offer in ipairs(offers) do
    local rating
    for exactness, pattern in ipairs({"*/*", offer:match("^[^/]*") .. "/*", offer}) do
      for place, range in ipairs(asked) do
        if range.name == pattern then rating = {range.quality, exactness, -place} break end
      end
    end
    if rating and rating[1] > 0 then
      local better = not best_rating
      for part = 1, 3 do
        if better or rating[part] < best_rating[part] then break end
        better = rating[part] > best_rating[part]
      end
      if better then best, best_rating = offer, rating end
    end
  end
  return best
end

local function last_labels(host, count)
  local labels = split(host, ".")
  return table.concat(labels, ".", math.max(1, #labels - count + 1))
end

local function notice(outcome, host, place, headers)
  local language = chosen_language(headers:get("accept-language"), languages, own_languages[place] or own_languages.other)
  local kind = chosen_type(headers:get("accept"), types, function(name) return meant_by[name] end)
  local body = {}
  for at, part in ipairs(notices[outcome][language][kind]) do
    body[at] = type(part) == "number" and last_labels(host, part) or part
  end
  local lines = {[":status"] = "451", ["content-type"] = content_types[kind], ["content-language"] = language}
  for name, value in pairs(notice_headers) do lines[name] = value end
  return {headers = lines, body = table.concat(body)}
end

-- An answer, "uncached", or nil for a request that passes
local function decision(handle)
  local headers = handle:headers()
  local host = headers:get(":authority") or ""
  if byte(host, 1) == BRACKET then
    return not (host:find("^%[[%x:.]+%]$") or host:find("^%[[%x:.]+%]:%d*$")) and bad_host or nil
  end
  local last = end_of_name(host)
  local group, named = group_of(host, last)
  if not named then return bad_host end
  if group == nil or group == "-" then return nil end
  local info = handle:streamInfo()
  local place = place_of(client_of(peer_of(info), believed and headers:get("x-forwarded-for")))
  local outcome = actions[group][place]
  if outcome == nil or outcome == "uncached" then return outcome end
  return notice(outcome, host:sub(1, last):lower(), place, headers)
end

function envoy_on_request(handle)
  local decided, verdict = pcall(decision, handle)
  if not decided then -- never let through what could not be decided
    handle:logErr("cdnblock: " .. tostring(verdict))
    verdict = failure
  end
  if verdict == nil then return end
  if verdict == "uncached" then
    handle:streamInfo():dynamicMetadata():set("cdnblock", "uncached", true)
  else
    handle:respond(verdict.headers, verdict.body)
  end
end

local function uncached(handle)
  if not handle:streamInfo():dynamicMetadata():get("cdnblock") then return end
  local headers = handle:headers()
  for _, name in ipairs(removed_from_responses) do headers:remove(name) end
  for name, value in pairs(no_store) do headers:add(name, value) end
end

if has_uncached then envoy_on_response = uncached end
