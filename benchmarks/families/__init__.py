"""Every class of every family that is supported: random models of them, what a cut has to be, and whether it is."""
