"""Every schedule of a few concurrent runs, up to a bound, of the real code against a real MySQL.

A scheduler decides after every statement which run goes next, and may cut a connection there: the bounds are those
of context-bounded model checking (https://doi.org/10.1145/1273442.1250785). Nothing waits for real time except
a server that ends a statement whose client is gone, and "data in use", in which the server waits a second for a lock.
"""
