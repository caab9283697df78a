"""Where the clients of the tests are, as the small country table of `conftest.py` tells it."""

FRANCE, REUNION, GERMANY, NOWHERE = "203.0.113.7", "192.0.2.7", "198.51.100.7", "100.64.0.7"
