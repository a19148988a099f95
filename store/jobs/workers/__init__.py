"""Workers: what they have and announce, which are alive, and what the queue demands of them."""
