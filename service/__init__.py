"""The HTTP front end: routes parse and answer, core holds the rules, store keeps everything. Never imports torch."""
