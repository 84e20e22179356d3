"""HTTP as clients speak it: connections, keys, bodies, routes, responses."""
