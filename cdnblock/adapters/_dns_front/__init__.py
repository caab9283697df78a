"""The parts of the DNS front: how queries are judged, how the others are handed on, and each way in which they come.

`queries` decides on octets, `upstreams` asks, and `front` joins them; `server` (UDP and TCP), `over_tls` and
`over_https` are ways in. `workers` and `worker` share the work among processes. What is public is in `dns_server`.
"""
