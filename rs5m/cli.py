"""The `rs5m` command. Chapter: setup."""

import argparse
import os
import sys

from rs5m.commands import detector, evaluate, export, fetch, pub11, rs3, tune


def parser() -> argparse.ArgumentParser:
    """The command line: one subcommand per task."""
    root = argparse.ArgumentParser(
        prog="rs5m", description="RS5M and GeoRSCLIP, rebuilt line by line"
    )
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    for command in (pub11, detector, rs3, tune, evaluate, export, fetch):
        command.add(commands)
    return root


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; whatever goes wrong is one line.

    Exit codes: 2 for bad input, a package to install or a non-finite loss; 130 when interrupted;
    1 for what nobody expected (RS5M_DEBUG=1 shows where it came from).
    """
    arguments = parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        print("rs5m: interrupted: run the same command again to go on", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print(f"rs5m: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        if os.environ.get("RS5M_DEBUG"):
            raise
        cause = " ".join(str(error).split())[:300]
        print(
            f"rs5m: {type(error).__name__}: {cause}; this is not your input's fault as far as is "
            "known: set RS5M_DEBUG=1 to see where it came from",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
