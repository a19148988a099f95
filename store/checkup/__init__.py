"""Checks the parts of a server on this machine; `secateur doctor` runs it as a separate process.

One file per kind of part. Nothing here changes stored data, except --recount.
"""
