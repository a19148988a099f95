"""Who calls and what they may: scopes, rate limits, refused keys, sessions of browsers."""
