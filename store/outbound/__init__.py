"""Requests to addresses that strangers name: checked, pinned to the address that was checked, bounded in time and bytes."""
