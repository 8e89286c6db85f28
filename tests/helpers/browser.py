"""The system's Chromium, headless, driven by its DevTools protocol over a pipe: no port, no
package.

`Browser.start()` is None where there is no Chromium or it does not start.
"""

import json
import os
import select
import shutil
import subprocess
import tempfile
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # a page never reaches the network
    "--remote-debugging-pipe",
)


class Slow(Exception):
    """The browser gave no answer in time."""


class Browser:
    """One page of one browser. `events` holds (method, parameters) of all since the last `go`."""

    def __init__(self, program: str):
        self.home = tempfile.mkdtemp(prefix="chromium-")
        theirs, self.to = os.pipe()
        self.back, ours = os.pipe()
        command = f'exec "$0" "$@" 3<&{theirs} 4>&{ours}'
        self.process = subprocess.Popen(
            ["bash", "-c", command, program, *OPTIONS, f"--user-data-dir={self.home}"],
            pass_fds=(theirs, ours),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(ours)
        self.rest, self.number, self.session, self.events = b"", 0, None, []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    @classmethod
    def start(cls) -> "Browser | None":
        program = next(filter(None, map(shutil.which, NAMES)), None)
        if not program:
            return None
        try:
            return cls(program)
        except (Slow, OSError):
            return None

    def ask(self, method: str, seconds: float = 60, **parameters) -> dict:
        """The result of one command; `Slow` without an answer in time."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + seconds
        while True:
            answer = self.read(until)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self.events.append((answer.get("method"), answer.get("params")))

    def read(self, until: float) -> dict:
        """The next message."""
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.back], [], [], max(0, until - time.monotonic()))
            part = os.read(self.back, 1 << 20) if ready else b""
            if not part:
                raise Slow("Chromium gives no answer")
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def go(self, address: str, seconds: float = 60) -> None:
        """Open a page and wait until all of it is there."""
        self.events.clear()
        self.ask("Page.navigate", url=address)
        until = time.monotonic() + seconds
        while not any(method == "Page.loadEventFired" for method, _ in self.events):
            message = self.read(until)
            self.events.append((message.get("method"), message.get("params")))

    def run(self, code: str, seconds: float = 60):
        """What a JavaScript expression, or the promise that it is, comes to."""
        answer = self.ask(
            "Runtime.evaluate", seconds, expression=code, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def errors(self) -> list[str]:
        """What the console has said of this page: exceptions and errors."""
        said = [p["exceptionDetails"] for m, p in self.events if m == "Runtime.exceptionThrown"]
        said += [p["entry"] for m, p in self.events if m == "Log.entryAdded"]
        return [str(one) for one in said if one.get("level", "error") == "error"]

    def requests(self) -> list[str]:
        """Addresses that this page asked for."""
        asked = (p["request"]["url"] for m, p in self.events if m == "Network.requestWillBeSent")
        return [address for address in asked if not address.startswith("data:")]

    def stop(self) -> None:
        os.close(self.to)
        os.close(self.back)
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)
