"""What strangers may try, tried."""
