"""``python -m interface``: the same command line as ``spinodal``."""

from interface.cli import main

if __name__ == "__main__":
    main()
