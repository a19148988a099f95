"""Whether the parts of a server on this machine are as they should be; `secateur doctor` runs it as a process of its own.

One file for each kind of part. Nothing here changes stored data, except --recount.
"""
