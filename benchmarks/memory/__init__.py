"""What a job takes of the memory of its host."""
