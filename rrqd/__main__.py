"""`python -m rrqd` is `rrqd`."""

from rrqd.cli.main import main

if __name__ == "__main__":
    main()
