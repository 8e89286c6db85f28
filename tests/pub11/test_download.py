"""Stage 2 on one machine: whatever the order of the results, whenever it is killed."""

import http.server
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pandas as pd
import pyarrow.parquet as pq
import pytest

from rs5m import web
from rs5m.data.runfolder import shard_path
from rs5m.pub11 import download
from rs5m.pub11.stages import FETCHED

LIMITS = web.Limits(allow_loopback=True, per_host=16, retries=0, timeout=1.5)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", 65536  # one packet an answer

    def log_message(self, *args):
        pass

    def do_GET(self):
        number = int(self.path[1:])
        with self.server.lock:
            self.server.hits[number] += 1
        if number % 64 == 5:
            time.sleep(self.server.slow)
        time.sleep(random.uniform(0.0, 0.02))
        body = random.Random(number).randbytes(100 + number) if number % 7 else b""
        self.send_response(200 if number % 11 else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.hits, server.lock, server.slow = True, Counter(), None, 0.0
    server.lock = threading.Lock()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
    yield server
    server.shutdown()
    server.server_close()


def table(site, count, size=64):
    keys = [f"http://127.0.0.1:{site.server_port}/{i}" for i in range(count)]
    return pd.DataFrame({"key": keys, "shard": [i // size for i in range(count)], "pairs": 1})


def shards(out, count):
    return [shard_path(out, "fetch", n).read_bytes() for n in range(count)]


def test_same_bytes_whatever_the_order(site, tmp_path):
    urls, orders = table(site, 256), []
    for name, workers in (("a", 1), ("b", 16)):
        (tmp_path / name).mkdir()
        seen = []
        download.download(
            urls, LIMITS, tmp_path / name, workers, lambda url, _, s=seen: s.append(url)
        )
        orders.append(seen)
    assert orders[0] == urls.key.tolist() != orders[1] and sorted(orders[1]) == sorted(orders[0])
    assert shards(tmp_path / "a", 4) == shards(tmp_path / "b", 4)
    first = pq.read_table(shard_path(tmp_path / "a", "fetch", 0))
    assert first.schema == FETCHED and first["key"].to_pylist() == urls.key[:64].tolist()
    assert Counter(first["status"].to_pylist()) == {"ok": 49, "empty": 9, "http_404": 6}
    assert sorted(p.name for p in (tmp_path / "b/fetch").iterdir()) == [
        f"{n:05d}.parquet" for n in range(4)
    ], "nothing else is left"


CHILD = """
import sys
from pathlib import Path
import pandas as pd
from rs5m import web
from rs5m.pub11 import download
out = Path(sys.argv[1])
limits = web.Limits(allow_loopback=True, per_host=16, retries=0, timeout=5.0)
print("ready", flush=True)
count = lambda url, got: print(url, flush=True)
download.download(pd.read_parquet(out / "urls.parquet"), limits, out, 16, count)
"""


def test_a_kill_in_the_middle_asks_nothing_twice_but_what_was_under_way(site, tmp_path):
    site.slow = 2.0  # a slow URL in every shard: no shard is whole when the process is killed
    urls = table(site, 512)
    urls.to_parquet(tmp_path / "urls.parquet")
    for after in (50, 150, None):
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout.readline() == "ready\n"
        for i, _ in enumerate(process.stdout):
            if i == after:
                process.send_signal(signal.SIGKILL)
        assert process.wait() == (0 if after is None else -signal.SIGKILL)
        done = list((tmp_path / "fetch").glob("*.parquet"))
        assert len(done) == (8 if after is None else 0)
        if after is None:
            break
        site.slow = 2.0 if after == 50 else 0.0
    twice = sum(site.hits.values()) - 512
    assert len(site.hits) == 512 and 0 < twice <= 2 * 2 * 16
    (tmp_path / "whole").mkdir()
    download.download(urls, LIMITS, tmp_path / "whole", 4)
    assert shards(tmp_path, 8) == shards(tmp_path / "whole", 8)


@pytest.mark.parametrize("damage", ["garbage", "cut", "other"])
def test_results_that_a_power_cut_damaged_are_asked_again(damage, site, tmp_path):
    urls = table(site, 128)
    path = tmp_path / download.CAME
    path.parent.mkdir()
    if damage == "garbage":
        path.write_bytes(random.Random(0).randbytes(5000))
    else:
        with download._came(path) as came:
            rows = [(key, 0, "ok", 200, b"x" * 3000) for key in urls.key[:60]]
            came.executemany("insert into came values (?, ?, ?, ?, ?)", rows)
            came.execute("pragma wal_checkpoint(truncate)")
            whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else whole[:100])
    download.download(urls, LIMITS, tmp_path, 8)
    contents = pq.read_table(shard_path(tmp_path, "fetch", 0))["content"].to_pylist()
    assert contents[1] == random.Random(1).randbytes(101) and len(site.hits) == 128
    assert not path.exists()


def test_a_shard_that_was_whole_at_the_kill_is_kept_without_asking(site, tmp_path):
    urls = table(site, 128)
    (tmp_path / "fetch").mkdir()
    came = download._came(tmp_path / download.CAME)
    with pytest.raises(InterruptedError), came as held:
        rows = [(key, 1, "ok", 200, b"x") for key in urls.key[64:]]
        rows.append(("http://gone.example/", 7, "ok", 200, b"x"))
        held.executemany("insert into came values (?, ?, ?, ?, ?)", rows)
        raise InterruptedError
    download.download(urls, LIMITS, tmp_path, 8)
    assert sorted(site.hits) == list(range(64))
    assert set(pq.read_table(shard_path(tmp_path, "fetch", 1))["content"].to_pylist()) == {b"x"}
    assert (tmp_path / "log.txt").read_text().split("\n")[:2] == ["fetch 00001", "fetch 00000"]
