# Varnish 7 as a cache that asks cdnblock before it looks anything up: a fetch before the fetch, then a restart.
#
#   cdnblock serve --orders /etc/cdnblock/orders --state /var/lib/cdnblock --trusted-caller 127.0.0.1 \
#       --trusted-proxies 127.0.0.1 --listen 127.0.0.1:9451
#   varnishd -a 127.0.0.1:8080 -f /etc/varnish/varnish.vcl
#
# Yours: the two backends, and below `sub vcl_recv` what you do with requests that pass. If the service is down or slow,
# every request gets 503: closed for all hosts. Varnish speaks no TLS; put it behind something that does, and name that
# in --trusted-proxies.
vcl 4.1;
import std;

backend cdnblock {
  .host = "127.0.0.1"; .port = "9451";
  .connect_timeout = 1s; .first_byte_timeout = 2s; .between_bytes_timeout = 2s;
}
backend origin { .host = "127.0.0.1"; .port = "8000"; }

sub vcl_recv {
  if (req.restarts == 0) {
    # What clients say in these fields is nobody's word.
    unset req.http.X-Cdnblock-Action;
    unset req.http.X-Cdnblock-Generation;
    unset req.http.X-Cdnblock-Ask;
    # A body is wanted twice: it is kept until the origin gets it. What is larger is refused.
    if (req.http.Content-Length || req.http.Transfer-Encoding) {
      if (!std.cache_req_body(16MB)) { return (synth(413)); }
    }
    set req.http.X-Cdnblock-Ask = "1";
    set req.backend_hint = cdnblock;
    return (pass);
  }
  unset req.http.X-Cdnblock-Ask;
  set req.backend_hint = origin;
  # WebSockets, and nothing else, get a pipe, through which Varnish passes on whatever comes: undecided. So they are let
  # in where you have some, here /socket and /ws, and as a whole handshake. Name no URL that answers one with a page.
  std.collect(req.http.Upgrade);
  std.collect(req.http.Connection);
  if (req.url ~ "^/(socket|ws)($|[/?])" && req.method == "GET" && req.http.Upgrade ~ "(?i)^websocket$" &&
      req.http.Connection ~ "(?i)(^|[ ,])upgrade($|[ ,])" && req.http.Sec-WebSocket-Version == "13" &&
      req.http.Sec-WebSocket-Key ~ "^[A-Za-z0-9+/]{22}==$" && !req.http.Content-Length && !req.http.Transfer-Encoding) {
    return (pipe);
  }
  unset req.http.Upgrade;
  unset req.http.HTTP2-Settings;
  if (req.http.X-Cdnblock-Action == "uncached") { return (pass); }  # measure cdn: no look-up, nothing stored

  # From here on it is yours.
  if (req.method != "GET" && req.method != "HEAD") { return (pass); }
  return (hash);
}

sub vcl_pipe {
  # An origin that refuses the handshake ends the connection with its answer: there the client's next request would come
  # to it undecided. It has to read Connection as the list that it is (RFC 9110 §7.6.1). A 101 is no such answer.
  set bereq.http.Upgrade = "websocket";
  set bereq.http.Connection = "Upgrade, close";
  unset bereq.http.HTTP2-Settings;
  unset bereq.http.X-Cdnblock-Action;
  unset bereq.http.X-Cdnblock-Generation;
}

sub vcl_backend_fetch {
  if (bereq.http.X-Cdnblock-Ask) {
    set bereq.http.X-Forwarded-Host = bereq.http.Host;
    set bereq.http.X-Forwarded-Method = bereq.method;
    set bereq.http.X-Forwarded-Uri = bereq.url;
    # What else the client sends is no part of the question: doubled or odd, the service would answer it with a 400.
    unset bereq.http.Upgrade;
    unset bereq.http.Expect;
    unset bereq.http.Content-Type;
    unset bereq.http.Content-Location;
    unset bereq.http.Content-Range;
    unset bereq.http.ETag;
    unset bereq.http.Max-Forwards;
    unset bereq.http.Server;
    unset bereq.http.User-Agent;
    unset bereq.http.Cookie;
    unset bereq.http.Authorization;
    unset bereq.http.Referer;
    if (bereq.method != "HEAD") { set bereq.method = "GET"; }
    set bereq.url = "/varnish";
    unset bereq.body;
    return (fetch);
  }
  # X-Cdnblock-Generation, the service's own, stays: it goes with the object. The origin sees it, which does no harm.
  unset bereq.http.X-Cdnblock-Action;
}

sub vcl_backend_response {
  if (bereq.http.X-Cdnblock-Ask) {
    set beresp.uncacheable = true;
    return (deliver);
  }
  # What was fetched under a generation may be handed out under that one alone, and what was on its way, too.
  set beresp.http.X-Cdnblock-Generation = bereq.http.X-Cdnblock-Generation;
  set beresp.http.X-Cdnblock-Host = bereq.http.Host;
}

sub vcl_hit {
  # Measure cdn has started or ended for this host: purge whatever was stored of it before, in every variant.
  if (obj.http.X-Cdnblock-Generation != req.http.X-Cdnblock-Generation) {
    ban("obj.http.X-Cdnblock-Host == " + obj.http.X-Cdnblock-Host + " && obj.http.X-Cdnblock-Generation != " + req.http.X-Cdnblock-Generation);
    return (restart);
  }
}

sub vcl_deliver {
  if (req.http.X-Cdnblock-Ask) {
    if (resp.status == 200 && resp.http.X-Cdnblock-Action ~ "^(pass|uncached)$") {
      set req.http.X-Cdnblock-Action = resp.http.X-Cdnblock-Action;
      set req.http.X-Cdnblock-Generation = resp.http.X-Cdnblock-Generation;
      return (restart);
    }
    # the 451 with its notice, or whatever else is no leave to pass
    unset resp.http.X-Cdnblock-Action;
    unset resp.http.X-Cdnblock-Generation;
    unset resp.http.Age;
    return (deliver);
  }
  unset resp.http.X-Cdnblock-Generation;
  unset resp.http.X-Cdnblock-Host;
  set resp.http.X-Cache = "MISS";
  if (obj.hits > 0) { set resp.http.X-Cache = "HIT"; }
  if (req.http.X-Cdnblock-Action == "uncached") {
    set resp.http.X-Cache = "BYPASS";
    unset resp.http.Expires;
    unset resp.http.Age;
    unset resp.http.Surrogate-Control;
    unset resp.http.Cloudflare-CDN-Cache-Control;
    unset resp.http.Akamai-Cache-Control;
    unset resp.http.Edge-Control;
    unset resp.http.Vercel-CDN-Cache-Control;
    unset resp.http.Netlify-CDN-Cache-Control;
    unset resp.http.X-Accel-Expires;
    unset resp.http.X-Litespeed-Cache-Control;
    unset resp.http.Surrogate-Key;
    unset resp.http.Cache-Tag;
    unset resp.http.Edge-Cache-Tag;
    unset resp.http.Netlify-Cache-Tag;
    unset resp.http.Vercel-Cache-Tag;
    unset resp.http.X-Litespeed-Tag;
    set resp.http.Cache-Control = "no-store";
    set resp.http.CDN-Cache-Control = "no-store";
  }
}
