"""Requests to addresses that users supply: checked, pinned to the checked address, limited in time and bytes."""
