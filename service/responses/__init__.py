"""Responses other than plain JSON: files and ranges, conditional and repeated requests."""
