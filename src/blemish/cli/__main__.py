"""`python -m blemish.cli` is `blemish`."""

from blemish.cli import main

main()
