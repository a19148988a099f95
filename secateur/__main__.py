"""`python -m secateur`: the same as the `secateur` command."""

from secateur.cli import app

app(prog_name="secateur")
