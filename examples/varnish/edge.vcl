# Your own VCL. The include stands before all else: what follows runs for what is let through, and nothing has to be
# pasted. Only what may become a pipe is your business: through one Varnish passes on whatever comes, undecided.
vcl 4.1;
include "FOLDER/cdnblock/cdnblock.vcl";

backend site { .host = "127.0.0.1:8000"; }

sub vcl_recv {
  # WebSockets where you have some, here /socket and /ws. Name no URL that answers a handshake with a page.
  if (req.url ~ "^/(socket|ws)($|[/?])" && req.http.Upgrade) { return (pipe); }
}

sub vcl_deliver {
  if (obj.hits > 0) { set resp.http.X-Cache = "HIT"; } else { set resp.http.X-Cache = "MISS"; }
}
