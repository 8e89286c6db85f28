"""One chat completion over HTTP, as OpenAI's API, vLLM and llama.cpp's server give it.
Chapter: captions.
"""

from __future__ import annotations

import json
import os
import time
from threading import Event
from typing import NamedTuple
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError

KEY = "OPENAI_API_KEY"  # of the environment, the usual name; servers of one's own need none
BUSY = {408, 409, 425, 429, 500, 502, 503, 504, 529}  # another attempt may help
DECLINED = {400, 413, 422}  # this request alone
LONGEST = 2**22  # bytes of an answer
LONGEST_PAUSE = 60.0  # seconds


class Answer(NamedTuple):
    """What the model said, and the tokens that it counted."""

    text: str
    tokens: int


class Declined(Exception):
    """The endpoint does not take this request; it may take others."""


class _Nonsense(Exception):
    """An answer that is no chat completion."""


class Endpoint:
    """An address that answers POST /chat/completions; may be asked by several threads.

    The key comes from $OPENAI_API_KEY and goes to this address alone: redirects are not followed.

    Args:
        url: what stands before /chat/completions, such as http://host:8000/v1.
        model: the name by which the endpoint knows the model.
        timeout: seconds of one attempt.
        retries: further attempts where it is busy, silent or answers nonsense.
        backoff: seconds before the second attempt, doubled each time; Retry-After goes before it.
    """

    def __init__(
        self, url: str, model: str, timeout: float = 120.0, retries: int = 4, backoff: float = 1.0
    ):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"{url!r} is not the address of a chat model: give one such as "
                "http://localhost:8000/v1"
            )
        self.url = f"{url.rstrip('/').removesuffix('/chat/completions')}/chat/completions"
        self.model, self.timeout, self.retries, self.backoff = model, timeout, retries, backoff
        self.stopped = Event()  # ends the pauses between attempts
        self._pool = urllib3.PoolManager(maxsize=64)
        key = os.environ.get(KEY)
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        self._headers |= {"Authorization": f"Bearer {key}"} if key else {}

    def ask(self, messages: list[dict], **options) -> Answer:
        """The answer to messages, with the options of the request as they stand.

        OSError in one sentence where there is none, Declined where the endpoint does not take
        this one.
        """
        body = json.dumps({"model": self.model, "messages": messages} | options).encode()
        why, pause = "", 0.0
        for attempt in range(self.retries + 1):
            if attempt and self.stopped.wait(pause):
                break
            pause = min(self.backoff * 2**attempt, LONGEST_PAUSE)
            try:
                status, headers, answer = self._post(body)
                if status == 200:
                    return _read(answer)
            except (HTTPError, OSError) as error:
                why = f"gives no answer ({type(error).__name__})"
            except _Nonsense as error:
                why = f"answers what is no chat completion ({error})"
            else:
                if status not in BUSY:
                    raise self._refusal(status, answer)
                why = f"is busy or broken (HTTP {status})"
                pause = _asked(headers.get("Retry-After"), pause)
        raise OSError(
            f"{self.url} {why} in {self.retries + 1} attempts: check the address, or start it "
            "again; what has been answered is kept, and the same command goes on"
        )

    def _post(self, body: bytes) -> tuple[int, urllib3.HTTPHeaderDict, bytes]:
        end, answer = time.monotonic() + self.timeout, b""
        reply = self._pool.request(
            "POST",
            self.url,
            body=body,
            headers=self._headers,
            timeout=self.timeout,
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            while chunk := reply.read1(65536):
                answer += chunk
                if time.monotonic() > end:
                    raise TimeoutError
                if len(answer) > LONGEST:
                    raise _Nonsense(f"more than {LONGEST} bytes")
        except BaseException:
            reply.close()
            raise
        reply.release_conn()
        return reply.status, reply.headers, answer

    def _refusal(self, status: int, answer: bytes) -> Exception:
        said = " ".join(answer[:200].decode("utf-8", "replace").split())
        if status in DECLINED:
            return Declined(f"{self.url} declines the request (HTTP {status}: {said})")
        cure = {401: f"set {KEY}", 403: f"check {KEY} and its rights"}.get(
            status, f"check the address and the model's name, {self.model}"
        )
        return OSError(f"{self.url} refuses (HTTP {status}): {cure}")


def _asked(header: str | None, pause: float) -> float:
    """The pause that Retry-After asks for, within bounds; a date is not read."""
    seconds = float(header) if header and header.strip().isdecimal() else pause
    return min(seconds, LONGEST_PAUSE)


def _read(answer: bytes) -> Answer:
    """Text and tokens of a completion; text may come in parts."""
    try:
        found = json.loads(answer)
        content = found["choices"][0]["message"]["content"]
        if isinstance(content, list):
            content = "".join(part.get("text", "") for part in content)
        tokens = int((found.get("usage") or {}).get("total_tokens") or 0)
        if not isinstance(content, str | None):
            raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _Nonsense(repr(answer[:60])[2:-1] or "nothing") from error
    return Answer(content or "", tokens)
