"""Where the client is: one address, one country. Pure over a table handed in."""
