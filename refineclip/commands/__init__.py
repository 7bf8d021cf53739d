"""Subcommands of ``python -m refineclip``: modules or folders with ``main(argv) -> status``."""
