"""A hidden primary: policy zones by transfer, for the resolvers that already have them (RFC 5936, 1995, 1996, 8945).

For each set of clients there are three zones, which resolvers take in this order:

    pass-fr     names that are let go although a zone behind it has them, or has one above them
    delta-fr    what has changed since the bulk was written
    base-fr     the bulk

A resolver works through a whole zone for each change of it, so one more name on a million is a change of a small zone.
What the small zones hold goes over into the bulk now and then, and leaves them when every resolver has had the time
to take that over.
"""
