"""Options of `rs5m rs3` for a chat model as the captioner."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path


def add(parser) -> None:
    """The options."""
    address = (
        "The address of a chat model in place of --captioner, as vLLM, llama.cpp's server and "
        "OpenAI's API have it: what stands before /chat/completions, such as "
        "http://localhost:8000/v1; its key comes from OPENAI_API_KEY (default: none)."
    )
    name = "The name by which --captioner-url knows the model (default: none)."
    prompts = (
        "A TOML file of prompts and settings of a request, in the form of "
        "rs5m/captions/questions.toml (default: that one)."
    )
    requests = (
        "The requests to --captioner-url after which the run stops, earlier ones of this folder "
        "included (default: no limit)."
    )
    tokens = "The tokens, likewise, as the answers count them (default: no limit)."
    workers = "The requests to --captioner-url that are open at a time (default: %(default)s)."
    timeout = "The seconds that one attempt at an answer may take (default: %(default)s)."
    retries = (
        "The further attempts where --captioner-url is busy, silent or answers nonsense "
        "(default: %(default)s)."
    )
    parser.add_argument("--captioner-url", default="", metavar="URL", help=address)
    parser.add_argument("--captioner-model", default="", metavar="NAME", help=name)
    parser.add_argument("--captioner-prompts", default="", metavar="FILE", help=prompts)
    parser.add_argument("--max-requests", type=int, default=0, metavar="N", help=requests)
    parser.add_argument("--max-tokens", type=int, default=0, metavar="N", help=tokens)
    parser.add_argument("--workers", type=int, default=8, metavar="N", help=workers)
    parser.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS", help=timeout)
    parser.add_argument("--retries", type=int, default=4, metavar="N", help=retries)


def check(arguments: argparse.Namespace) -> None:
    """ValueError or FileNotFoundError, before anything large is imported, for what was typed."""
    url, name, file = (getattr(arguments, f"captioner_{x}") for x in ("url", "model", "prompts"))
    if bool(url) != bool(name):
        raise ValueError("--captioner-url and --captioner-model belong together: give both")
    if file and not url:
        raise ValueError("--captioner-prompts belongs to --captioner-url: give it, too")
    if url and (arguments.captioner or arguments.adapter):
        raise ValueError("--captioner-url takes the place of --captioner and --adapter: drop them")
    if file and not Path(file).is_file():
        raise FileNotFoundError(f"--captioner-prompts {file} is not a file: check its spelling")
    for option, least in {"max_requests": 0, "max_tokens": 0, "workers": 1, "retries": 0}.items():
        if getattr(arguments, option) < least:
            said = f"--{option.replace('_', '-')} is {getattr(arguments, option)}"
            raise ValueError(f"{said}: give {least} or more")
    if not arguments.timeout > 0:
        raise ValueError(f"--timeout is {arguments.timeout}: give seconds above 0")


def captioner(arguments: argparse.Namespace) -> tuple[Callable, str]:
    """What makes the captioner of a run, and its name."""
    from rs5m.captions import chat
    from rs5m.captions.endpoint import Endpoint

    endpoint = Endpoint(
        arguments.captioner_url, arguments.captioner_model, arguments.timeout, arguments.retries
    )
    prompts = chat.read_prompts(arguments.captioner_prompts)
    budget = chat.Budget(arguments.max_requests, arguments.max_tokens)
    make = partial(_make, Path(arguments.out), endpoint, prompts, budget, arguments.workers)
    return make, f"chat {arguments.captioner_model}, prompts {prompts.digest()}"


def _make(out: Path, endpoint, prompts, budget, workers: int):
    from rs5m.captions import answers, chat

    kept = answers.Answers(out / answers.FILE)
    return chat.ChatCaptioner(endpoint, kept, prompts, budget, workers)


def told(out: Path) -> str:
    """What a run's chat model was asked, "" where there was none."""
    from rs5m.captions import answers

    if not (out / answers.FILE).is_file():
        return ""
    spent = answers.Answers(out / answers.FILE).spent()
    declined = f", {spent.declined:,} of them declined" if spent.declined else ""
    return f"asked of the chat model: {spent.answers:,} captions{declined}, {spent.tokens:,} tokens"
