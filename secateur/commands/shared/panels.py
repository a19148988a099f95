"""Under which headings `secateur --help` lists the commands."""

JOBS = "Jobs"
UPLOADS = "Models and data"
SERVICE = "The service"
HERE = "On this machine"
