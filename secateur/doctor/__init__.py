"""`secateur doctor`: looks over an installation, says what is wrong and how to mend it, and mends what is safe to mend.

One file for each kind of thing that is looked at. What needs the rooms of the server is asked of a process of theirs.
"""
