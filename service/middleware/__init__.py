"""What every request passes before a route sees it: hosts, limits, who calls, log and metrics."""
