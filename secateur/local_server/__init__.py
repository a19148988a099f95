"""`secateur up`: the whole service on one machine. Starts, watches, restarts and stops its programs."""
