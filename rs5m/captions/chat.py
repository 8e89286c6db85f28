"""A captioner that asks a chat model over HTTP; answers are kept on disk. Chapter: captions.

* paper, RS3: BLIP-2, which takes no prompt; this is another model in the same place
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import tomllib
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from rs5m.captions.answers import Answers
from rs5m.captions.candidates import CANDIDATES, Images, check
from rs5m.captions.endpoint import Declined, Endpoint

OURS = {"model", "messages", "seed", "n", "stream"}  # not of a file of prompts
THOUGHT = re.compile(r"\s*<think>.*?</think>", re.DOTALL)  # of a model that thinks aloud


@dataclass(frozen=True)
class Prompts:
    """What is asked, see questions.toml; ValueError where it cannot be."""

    prompts: list[str]
    system: str = ""
    sides: list[int] = field(default_factory=lambda: [224, 1024])
    request: dict = field(default_factory=dict)

    def __post_init__(self):
        if not self.prompts or not _all(str, self.prompts) or not isinstance(self.system, str):
            raise ValueError("prompts must be a list of texts, and system a text")
        if not _all(int, self.sides) or sorted([1, *self.sides])[-2:] != self.sides:
            raise ValueError("sides must be two numbers of pixels, such as 224 and 1024")
        if not isinstance(self.request, dict) or OURS & self.request.keys():
            raise ValueError(f"request is a table without {', '.join(sorted(OURS))}")

    def digest(self) -> str:
        """SHA-256 of all of it."""
        said = json.dumps(asdict(self), sort_keys=True, default=str)
        return hashlib.sha256(said.encode()).hexdigest()


def _all(kind: type, values: object) -> bool:
    return isinstance(values, list) and all(isinstance(one, kind) for one in values)


def read_prompts(path: str | Path = "") -> Prompts:
    """The package's prompts, or those of a file of the same form; ValueError or OSError in one
    sentence.
    """
    source = Path(path) if path else files("rs5m.captions") / "questions.toml"
    try:
        return Prompts(**tomllib.loads(source.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:  # of TOML, of UTF-8, of names that are none of ours
        said = str(error).replace("Prompts.__init__() ", "")
        raise ValueError(
            f"{path} is not a file of prompts ({said}): write one like rs5m/captions/questions.toml"
        ) from error


@dataclass(frozen=True)
class Budget:
    """What a file of answers may hold in the end; 0 is no limit. Requests that are open when the
    last token is spent still count.
    """

    requests: int = 0
    tokens: int = 0


class _Ask(NamedTuple):
    key: str
    image: np.ndarray
    number: int


class ChatCaptioner:
    """Candidates from a chat model, a request each; what the file of answers holds is not asked
    again, in whatever process. OSError where the endpoint fails or the budget is used up: all that
    came is kept.

    Args:
        endpoint: whom to ask.
        answers: where answers are kept.
        prompts: candidate k is the answer to prompt k, beginning anew after the last, with seed k.
        budget: of all that the file holds.
        workers: requests open at a time; the first one goes alone.
        quiet: show no progress bar.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        answers: Answers,
        prompts: Prompts,
        budget: Budget | None = None,
        workers: int = 8,
        quiet: bool = False,
    ):
        if workers < 1:
            raise ValueError(f"workers is {workers}: give 1 or more")
        self.endpoint, self.answers, self.prompts = endpoint, answers, prompts
        self.budget, self.workers, self.quiet = budget or Budget(), workers, quiet
        self._lock, self._open = Lock(), 0

    def generate(self, images: Images, n: int = CANDIDATES) -> list[list[str | None]]:
        """n candidates for each uint8 image (h, w, 3); None for what the endpoint declined."""
        check(images, n)
        asks = [[_Ask(self._key(image, k), image, k) for k in range(n)] for image in images]
        every = {ask.key: ask for some in asks for ask in some}
        known = self.answers.get(every)
        todo = [ask for key, ask in every.items() if key not in known]
        if todo:
            self._ask_all(todo)
            known |= self.answers.get(ask.key for ask in todo)
        return [[known[ask.key] for ask in some] for some in asks]

    def _key(self, image: np.ndarray, number: int) -> str:
        pixels = hashlib.sha256(np.ascontiguousarray(image)).hexdigest()
        said = [self.endpoint.model, self.prompts.digest(), image.shape, pixels, number]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def _ask_all(self, todo: list[_Ask]) -> None:
        """The first failure lets open requests end and begins no other."""
        self.endpoint.stopped.clear()
        bar = tqdm(total=len(todo), desc="captions", unit=" answers", disable=self.quiet)
        with bar, ThreadPoolExecutor(self.workers) as pool:
            try:
                self._one(todo[0])  # alone: a wrong address or key is one request
                bar.update()
                for done in as_completed([pool.submit(self._one, ask) for ask in todo[1:]]):
                    done.result()
                    bar.update()
            except BaseException:
                self.endpoint.stopped.set()
                raise

    def _one(self, ask: _Ask) -> None:
        if self.endpoint.stopped.is_set():
            return
        self._begin()
        answer = None
        try:
            try:
                answer = self._asked(ask)
            finally:
                with self._lock:  # open, or kept, or neither, but never both
                    self._open -= 1
                    if answer:
                        self.answers.keep(ask.key, *answer)
        except BaseException:
            self.endpoint.stopped.set()
            raise

    def _begin(self) -> None:
        """Count a request as open, or OSError where the budget allows no other."""
        with self._lock:
            if self.budget != Budget():
                spent = self.answers.spent()
                if 0 < self.budget.requests <= spent.answers + self._open:
                    raise self._over(f"{self.budget.requests:,} requests")
                if 0 < self.budget.tokens <= spent.tokens:
                    raise self._over(f"{self.budget.tokens:,} tokens")
            self._open += 1

    def _over(self, what: str) -> OSError:
        self.endpoint.stopped.set()
        return OSError(
            f"the budget of {what} is used up: the answers are kept in {self.answers.path}, and "
            "the same command with a larger budget goes on"
        )

    def _asked(self, ask: _Ask) -> tuple[str | None, int]:
        options = {"seed": ask.number} | self.prompts.request
        try:
            answer = self.endpoint.ask(messages(ask.image, ask.number, self.prompts), **options)
        except Declined as declined:
            spent = self.answers.spent()
            if spent.answers == spent.declined:  # it has taken none so far
                raise OSError(f"{declined}: check the model's name and the prompts") from declined
            return None, 0
        return THOUGHT.sub("", answer.text).strip().strip('"'), answer.tokens


def messages(image: np.ndarray, number: int, prompts: Prompts) -> list[dict]:
    """What is sent for a candidate of an image: the image as a data URL, then the prompt."""
    url = f"data:image/jpeg;base64,{base64.b64encode(_jpeg(image, *prompts.sides)).decode()}"
    asked = prompts.prompts[number % len(prompts.prompts)]
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": asked}]
    system = [{"role": "system", "content": prompts.system}] if prompts.system else []
    return [*system, {"role": "user", "content": content}]


def _jpeg(image: np.ndarray, least: int, most: int) -> bytes:
    """An image whose shorter side has `least` pixels or more and whose longer one `most` or fewer,
    which goes before.
    """
    picture, (height, width) = Image.fromarray(image), image.shape[:2]
    scale = min(max(1.0, least / min(height, width)), most / max(height, width))
    if scale != 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=95)
    return stream.getvalue()
