"""``python -m flows.cli`` is the command ``fct``."""

from flows.cli import main

main()
