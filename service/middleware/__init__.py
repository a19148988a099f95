"""What every request passes before a route sees it: host check, limits, authentication, log and metrics."""
