"""Workers: what they have and announce, who is alive, and what the queue asks of them."""
