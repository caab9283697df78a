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
      return (synth(451, "@REASON@"));
    } elseif (req.http.X-Cdnblock-Action == "close") {
      # Varnish sends nothing after the time to send is over: not an octet, and the connection ends.
      if (req.esi_level == 0 && req.proto != "HTTP/2.0") { set sess.send_timeout = 0s; }
      return (synth(451, "@REASON@"));
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
@UNCACHED@
  }
}

sub vcl_synth {
  if (req.http.X-Cdnblock-Action == "terminate") {
    std.collect(req.http.Accept);
    std.collect(req.http.Accept-Language);
@NOTICE@
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
@UNCACHED@
  }
}
