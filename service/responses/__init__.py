"""Forms that answers take beside plain JSON: problems, files and ranges, event streams, conditional and repeated requests."""
