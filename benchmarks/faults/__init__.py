"""Breaking the service on purpose: a stack of real processes, the faults, and what must be left when they are over."""
