"""What only a GPU can tell, in one command: latency of cuts, Fisher information, a whole job, and if recovery waits for data."""
