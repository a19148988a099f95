"""Forms that answers take beside plain JSON: files and ranges, conditional and repeated requests."""
