"""The page of commands holds each of them, and each option, as the parser has it."""

import re
import shlex
from pathlib import Path

from rs5m import cli
from rs5m.commands import reference

PAGE = (Path(__file__).parents[2] / "book/reference.md").read_text(encoding="utf-8")


def test_the_page_shows_every_command_once():
    shown = re.findall(r'reference\.show\(parsers\["(.+?)"\]\)', PAGE)
    assert sorted(shown) == sorted(dict(reference.parsers(cli.parser())))
    titles = re.findall(r"^###? `(.+?)`", PAGE, re.M)
    assert titles == shown[1:]


def test_options_are_those_of_the_help():
    for name, parser in reference.parsers(cli.parser()):
        told = dict(reference.options(parser))
        helped = "".join(parser.format_help().split())  # it breaks lines at hyphens, too
        for typed, said in told.items():
            assert "".join(said.removesuffix(" Required.").split()) in helped, f"{name} {typed}"
            assert f"<dt><code>{typed}</code></dt>" in reference.to_html(parser)
        flags = {typed.split()[0] for typed in told if typed.startswith("--")}
        assert flags == set(re.findall(r"^  (--[a-z-]+)", parser.format_help(), re.M))


def test_every_help_shows_examples_and_each_is_a_command_that_parses():
    for name, parser in reference.parsers(cli.parser()):
        if name == "rs5m":
            continue
        _, _, shown = parser.format_help().replace("\\\n", "").partition("\nexample:\n")
        typed = [shlex.split(line) for line in shown.splitlines() if line.strip()]
        assert typed, name
        for words in typed:
            words = words[words.index("rs5m.cli" if "rs5m.cli" in words else "rs5m") + 1 :]
            try:
                cli.parser().parse_args(words)
            except SystemExit as ended:  # some options list what there is
                assert not ended.code, " ".join(words)
            assert f"rs5m {words[0]}" == " ".join(name.split()[:2])


def test_html_is_escaped():
    parser = cli.argparse.ArgumentParser(prog="x", epilog="a < b & c")
    parser.add_argument("--n", metavar="<N>", required=True, help="At most 5 %% of <N>, as `<x>`.")
    assert reference.options(parser) == [("--n <N>", "At most 5 % of <N>, as `<x>`. Required.")]
    sentence = "At most 5 % of &lt;N&gt;, as <code>&lt;x&gt;</code>. Required."
    assert f"<dd>{sentence}</dd>" in reference.to_html(parser)
    assert "a &lt; b &amp; c" in reference.to_html(parser)
