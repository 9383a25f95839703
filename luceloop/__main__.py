"""The command `luceloop`, also as `python -m luceloop`."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C ends it with a line even while it is being imported."""
    try:
        from luceloop.sweeps.cli.app import main as run
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
