"""`secateur doctor`: checks an installation, says what is wrong and how to fix it, and makes safe repairs.

One file per kind of check. Checks that need the server's packages run in a process that has them.
"""
