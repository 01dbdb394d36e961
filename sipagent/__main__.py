"""`python -m sipagent` is the `sipagent` command."""

from sipagent.cli import main

if __name__ == "__main__":
    main()
