"""Databases on both servers."""
