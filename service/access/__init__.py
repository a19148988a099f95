"""Authentication: the caller, rate limits, addresses that send wrong keys, browser sessions and their cookie."""
