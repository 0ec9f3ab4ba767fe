"""Runs the command line: ``python -m armlp`` is the same program as ``armlp``."""

from armlp.cli import main

if __name__ == "__main__":
    main()
