"""The `sipagent` command, also as `python -m sipagent`.

multiprocessing imports this module in every process that it forks: they have no use for the command line.
"""


def main() -> None:
    """Entry point."""
    from sipagent.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
