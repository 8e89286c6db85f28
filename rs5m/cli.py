"""The `rs5m` command. Chapter: setup."""

import argparse
import os
import signal
import sys

from rs5m import __version__

CODES = """exit codes:
  0    it is done
  1    an error that nobody expected; with RS5M_DEBUG=1 in the environment it is shown in full
  2    a wrong option or input, a package to install, a disk or network that failed, a loss that
       is not finite; one line says what to do
  130  interrupted; the same command goes on where it stopped
  141  whoever read the output, such as `head`, has had enough

`rs5m COMMAND --help` lists a command's options and shows an example. With argcomplete
(pip install "rs5m[completion]") `eval "$(register-python-argcomplete rs5m)"` lets a shell complete
commands and options by Tab.
"""


class Version(argparse.Action):
    """Says rs5m's version, with the commit where it lies in a checkout of its own."""

    def __call__(self, parser, *_) -> None:
        from rs5m import results

        commit = results.commit()
        print(f"rs5m {__version__}{f', commit {commit}' if commit else ''}")
        parser.exit()


def _commands() -> tuple:
    """The subcommands, imported where an interruption is heard: they take most of the start."""
    from rs5m.commands import (
        detector,
        embed,
        evaluate,
        export,
        fetch,
        models,
        pub11,
        rs3,
        search,
        sets,
        tune,
    )

    return pub11, detector, rs3, tune, evaluate, embed, search, export, fetch, models, sets


def parser() -> argparse.ArgumentParser:
    """The command line: one subcommand per task."""
    raw = argparse.RawDescriptionHelpFormatter
    root = argparse.ArgumentParser(
        prog="rs5m",
        description="RS5M and GeoRSCLIP, rebuilt line by line",
        epilog=CODES,
        formatter_class=raw,
    )
    said = "Print the version, and the commit of a checkout."
    root.add_argument("--version", action=Version, nargs=0, help=said)
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    for command in _commands():
        command.add(commands)
        own = commands.choices[command.__name__.rpartition(".")[2]]
        own.epilog = f"{own.epilog or ''}\nexample:{command.EXAMPLE}".lstrip()
        own.formatter_class = raw
    return root


def _said(error: Exception) -> str:
    """An error's words; those of the system, which name no cure, as a sentence."""
    if str(error).startswith("[Errno") and getattr(error, "filename", None):
        return f"{error.filename} cannot be used ({error.strerror}): name another, or fix that"
    return str(error)


def _last(words: str) -> None:
    """Say how a command ended, below the bars that it has drawn."""
    bars = getattr(sys.modules.get("tqdm"), "tqdm", None)
    for bar in list(getattr(bars, "_instances", ())):
        bar.close()
    print(f"rs5m: {words}", file=sys.stderr)


def _unread() -> bool:
    """Whether nobody reads our output any more; what is left of it is dropped."""
    try:
        print(flush=True)  # an empty line more where the broken pipe was another one
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    root = parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what could follow
        import argcomplete

        argcomplete.autocomplete(root)
    return root.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; whatever goes wrong is one line, and the exit code one of CODES."""
    for stream in (sys.stdout, sys.stderr):  # a file's name may hold what no screen can show
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        arguments = _arguments(argv)
        arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        if argv is None:  # the process is ours: one more Ctrl-C ends it at once, without a word
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        _last("interrupted: run the same command again to go on")
        return 130
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        if isinstance(error, BrokenPipeError) and _unread():
            return 141
        _last(_said(error))
        return 2
    except Exception as error:
        if os.environ.get("RS5M_DEBUG"):
            raise
        cause = " ".join(str(error).split())[:300]
        _last(
            f"{type(error).__name__}: {cause}; this is not your input's fault as far as is known: "
            "set RS5M_DEBUG=1 to see where it came from"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
