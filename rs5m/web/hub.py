"""Files of the hub, which is asked once whether it has one before its library fetches: the library
tries again for a minute where there is no network, and for hours where a busy hub says so. Chapter:
pub11.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

PATIENCE = 60  # seconds at most that a busy hub is waited for
BUSY = (408, 429, 500, 502, 503, 504)
Answer = TypeVar("Answer")


def fetch(repo: str, file: str, kind: str | None = None, revision: str | None = None) -> Path:
    """A file of the hub, from its cache or fetched whole; one that breaks off goes on where it
    stopped. Raises what the hub's library and its HTTP client raise, and plain errors: `why` has a
    word on each.

    Args:
        repo: OWNER/NAME.
        file: its path there.
        kind: "dataset"; None: a model.
        revision: a branch, tag or commit; None: the newest.
    """
    import huggingface_hub as given

    where = {"repo_type": kind, "revision": revision}
    if not isinstance(given.try_to_load_from_cache(repo, file, **where), str):
        size(repo, file, kind, revision)
    return Path(given.hf_hub_download(repo, file, **where))


def size(repo: str, file: str, kind: str | None = None, revision: str | None = None) -> int:
    """Bytes of a file of the hub, 0 where it does not say. Args: those of `fetch`, and so are the
    errors.
    """
    import huggingface_hub as given
    from huggingface_hub import constants

    url = given.hf_hub_url(repo, file, repo_type=kind, revision=revision)
    limit = constants.HF_HUB_ETAG_TIMEOUT
    return ask(lambda: given.get_hf_file_metadata(url, timeout=limit).size) or 0


def ask(question: Callable[[], Answer]) -> Answer:
    """What one request to the hub gives, within the library's own limit for such (10 s, or what
    HF_HUB_ETAG_TIMEOUT says). A busy hub and a connection that breaks are tried once more, after as
    long as the hub asks for, where that is not beyond PATIENCE.
    """
    from huggingface_hub import constants

    limit = constants.HF_HUB_ETAG_TIMEOUT
    try:
        return _within(limit, question)
    except Exception as error:  # the hub's own, its HTTP client's and plain ones
        wait = _told(error) or 1
        if wait > PATIENCE or not _passes(error):
            raise
        if wait > 1:
            print(f"the hub is busy ({why(error)})", flush=True)
    time.sleep(wait)
    return _within(limit, question)


def why(error: Exception) -> str:
    """A hub's answer in a word: its status, with what it asks to wait, or what broke."""
    if isinstance(error, TimeoutError):
        return str(error)
    status = getattr(getattr(error, "response", None), "status_code", type(error).__name__)
    wait = _told(error)
    return f"{status}, to be asked again in {wait:,} s" if wait else str(status)


def _within(seconds: float, question: Callable[[], Answer]) -> Answer:
    """As the client's own limit holds for each of a name's addresses, and not for finding them, the
    answer is waited for from outside.
    """
    came = queue.SimpleQueue()

    def run() -> None:
        try:
            came.put((question(), None))
        except Exception as error:
            came.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        answer, error = came.get(timeout=seconds)
    except queue.Empty:
        said = f"no answer within {seconds:g} s, which HF_HUB_ETAG_TIMEOUT sets"
        raise TimeoutError(said) from None
    if error is not None:
        raise error
    return answer


def _passes(error: Exception) -> bool:
    """Whether another try may fare better: a busy hub, or a connection that broke, which is an
    error of the HTTP client; a full disk, a wrong name or a switched-off network is a plain one.
    """
    response = getattr(error, "response", None)
    if response is not None:
        return response.status_code in BUSY
    return not isinstance(error, OSError | ValueError)


def _told(error: Exception) -> int:
    """Seconds after which a busy hub wants to be asked again, 0 where it does not say."""
    response = getattr(error, "response", None)
    if response is None or response.status_code not in BUSY:
        return 0
    spent = re.search(r"\bt=(\d+)", response.headers.get("ratelimit", ""))
    told = spent[1] if spent else response.headers.get("retry-after", "").strip()
    return int(told) if re.fullmatch(r"\d+", told) else 0
