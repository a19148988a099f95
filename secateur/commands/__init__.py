"""The commands of `secateur`, an idea a file; `secateur/cli.py` puts them together."""
