"""The commands of `secateur`, one file per command or related group; `secateur/cli.py` registers them."""
