"""The commands of `secateur`, a file each or a few that belong together; `secateur/cli.py` puts them together."""
