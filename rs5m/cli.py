"""The `rs5m` command. Chapter: setup."""

import argparse
import sys

from rs5m import scales


def pub11_command(arguments: argparse.Namespace) -> None:
    """`rs5m pub11`: run the stages and print the attrition table."""
    from rs5m import pub11, web
    from rs5m.pub11work import Model

    limits = web.Limits(allow_loopback=arguments.allow_loopback)
    model = Model(scales.get(arguments.scale).name, arguments.detector)
    pairs = arguments.pairs[0] if len(arguments.pairs) == 1 else arguments.pairs  # a shell may have expanded the glob
    out = pub11.run(pairs, arguments.out, model, limits)
    print(pub11.attrition(out).to_string(index=False))


def parser() -> argparse.ArgumentParser:
    """The command line: one subcommand per task."""
    root = argparse.ArgumentParser(prog="rs5m", description="RS5M and GeoRSCLIP, rebuilt line by line")
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    pub11 = commands.add_parser("pub11", help="from listed web pairs to clean remote-sensing pairs")
    pub11.add_argument("--pairs", required=True, nargs="+", help="parquet files with url and text, a glob or a folder")
    pub11.add_argument("--out", required=True, help="a new folder, or one of an interrupted run")
    pub11.add_argument("--scale", default="mini", help=f"whose general model judges: {', '.join(scales.SCALES)}")
    pub11.add_argument("--detector", default="", help="an npz written by rs5m.filters.save_detector")
    pub11.add_argument("--allow-loopback", action="store_true", help="let URLs reach this machine (the pocket web)")
    pub11.set_defaults(run=pub11_command)
    return root


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; a ValueError or an OSError (bad input) is one line on stderr and exit code 2."""
    arguments = parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f"rs5m: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
