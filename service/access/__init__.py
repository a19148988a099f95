"""Who calls and what they may: the caller, rate limits, addresses that send wrong keys, sessions of browsers and their cookie."""
