"""Subcommands of ``python -m refineclip``: one module each, with ``main(argv) -> exit status``."""
