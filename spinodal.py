"""``python -m spinodal``: the command line without an installed script."""

from interface.cli import main

if __name__ == "__main__":
    main()
