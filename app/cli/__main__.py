"""`python -m app.cli`: the same as `apex`."""

from app.cli.main import main

main()
