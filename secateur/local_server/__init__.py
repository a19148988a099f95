"""`secateur up`: the whole service on one machine, its programs started, watched, restarted and stopped."""
