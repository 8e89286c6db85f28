"""Stage 2 on one machine: whatever the order of the results, whenever it is killed."""

import http.server
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rs5m import web
from rs5m.data import runfolder
from rs5m.data.runfolder import shard_path
from rs5m.pub11 import download
from rs5m.pub11.arrivals import Arrivals
from rs5m.pub11.stages import FETCHED

LIMITS = web.Limits(allow_loopback=True, per_host=16, retries=0, timeout=30)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", 65536  # one packet an answer

    def log_message(self, *args):
        pass

    def do_GET(self):
        number = int(self.path[1:])
        with self.server.lock:
            self.server.hits[number] += 1
        if number % 64 == 5:
            self.server.released.wait(30)
        time.sleep(random.uniform(0.0, 0.02))
        body = random.Random(number).randbytes(100 + number) if number % 7 else b""
        self.send_response(200 if number % 11 else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.hits, server.lock = True, Counter(), threading.Lock()
    server.released = threading.Event()
    server.released.set()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def table(site, count, size=64):
    keys = [f"http://127.0.0.1:{site.server_port}/{i}" for i in range(count)]
    return pd.DataFrame({"key": keys, "shard": [i // size for i in range(count)], "pairs": 1})


def shards(out, count):
    return [shard_path(out, "fetch", n).read_bytes() for n in range(count)]


def test_same_bytes_whatever_the_order(site, tmp_path):
    urls, orders = table(site, 128), []
    for name, workers in (("a", 1), ("b", 16)):
        (tmp_path / name).mkdir()
        seen = []
        download.download(
            urls, LIMITS, tmp_path / name, workers, lambda url, _, s=seen: s.append(url)
        )
        orders.append(seen)
    assert orders[0] == urls.key.tolist() != orders[1] and sorted(orders[1]) == sorted(orders[0])
    assert shards(tmp_path / "a", 2) == shards(tmp_path / "b", 2)
    first = pq.read_table(shard_path(tmp_path / "a", "fetch", 0))
    assert first.schema == FETCHED and first["key"].to_pylist() == urls.key[:64].tolist()
    assert Counter(first["status"].to_pylist()) == {"ok": 49, "empty": 9, "http_404": 6}
    assert sorted(p.name for p in (tmp_path / "b/fetch").iterdir()) == [
        f"{n:05d}.parquet" for n in range(2)
    ], "nothing else is left"


CHILD = """
import sys
from pathlib import Path
import pandas as pd
from rs5m import web
from rs5m.pub11 import download
out = Path(sys.argv[1])
limits = web.Limits(allow_loopback=True, per_host=16, retries=0, timeout=60)
print("ready", flush=True)
count = lambda url, got: print(url, flush=True)
download.download(pd.read_parquet(out / "urls.parquet"), limits, out, 16, count)
"""


@pytest.mark.slow
def test_a_kill_in_the_middle_asks_nothing_twice_but_what_was_under_way(site, tmp_path):
    site.released.clear()  # a URL in every shard waits: none is whole when the process is killed
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
        if after == 150:
            site.released.set()
    twice = sum(site.hits.values()) - 512
    assert len(site.hits) == 512 and 0 < twice <= 2 * 2 * 16
    (tmp_path / "whole").mkdir()
    download.download(urls, LIMITS, tmp_path / "whole", 4)
    assert shards(tmp_path, 8) == shards(tmp_path / "whole", 8)


def held(out, number, rows):
    """The file of what has come for a shard, as a killed run leaves it."""
    (out / "fetch").mkdir(exist_ok=True)
    came = Arrivals(out / "fetch" / f".{number:05d}.came")
    for key, content in rows:
        status = "empty" if content is None else "ok"
        came.add(key, web.Fetched(status, content, key, 200))
    return came.path


def tail(came):
    """Damage to the last of the results: cut in its content or line, or not what was written."""
    whole = came.read_bytes()
    last = whole.rindex(b'["http')
    cuts = [whole[:end] for end in (last, last + 1, last + 20, len(whole) - 3000, len(whole) - 1)]
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    return [*cuts, whole[:-3000] + bytes(3000), flipped, cuts[0] + b"[1, 2]\n", cuts[0] + b"5\n"]


@pytest.mark.parametrize("case", range(9))
def test_a_damaged_tail_is_dropped_and_the_rest_kept(case, tmp_path):
    rows = [(f"http://a.example/{i}", None if i % 3 == 1 else bytes([i]) * 3000) for i in range(10)]
    came = held(tmp_path, 0, rows)
    whole = came.read_bytes()
    came.write_bytes(tail(came)[case])
    again = Arrivals(came)
    assert list(again.rows) == [key for key, _ in rows[:9]]
    assert came.read_bytes() == whole[: came.stat().st_size] and came.stat().st_size < len(whole)
    again.add(rows[9][0], web.Fetched("ok", rows[9][1], rows[9][0], 200))
    assert came.read_bytes() == whole
    keys = [key for key, _ in reversed(rows)]
    table = again.table(keys, 0)
    assert table.schema == FETCHED and table["key"].to_pylist() == keys
    assert table["content"].to_pylist() == [content for _, content in reversed(rows)]
    table.validate(full=True)


def test_a_line_without_its_end_is_not_whole(tmp_path):
    came = held(tmp_path, 0, [("http://a.example/0", None), ("http://a.example/1", None)])
    whole = came.read_bytes()
    came.write_bytes(whole[:-1])
    again = Arrivals(came)
    assert list(again.rows) == ["http://a.example/0"]
    again.add("http://a.example/1", web.Fetched("empty", None, "", 200))
    assert came.read_bytes() == whole and len(Arrivals(came).rows) == 2


@pytest.mark.parametrize("damage", ["garbage", "zeros", "none"])
def test_results_that_a_power_cut_damaged_are_asked_again(damage, site, tmp_path):
    urls = table(site, 128)
    path = held(tmp_path, 0, [(key, b"x" * 3000) for key in urls.key[:60]])
    size = path.stat().st_size
    noise = {"garbage": random.Random(0).randbytes(size), "zeros": bytes(size), "none": b""}
    path.write_bytes(noise[damage])
    download.download(urls, LIMITS, tmp_path, 8)
    contents = pq.read_table(shard_path(tmp_path, "fetch", 0))["content"].to_pylist()
    assert contents[1] == random.Random(1).randbytes(101) and len(site.hits) == 128
    assert not path.exists()


def test_a_shard_that_was_whole_at_the_kill_is_kept_without_asking(site, tmp_path):
    urls = table(site, 128)
    held(tmp_path, 1, [(key, b"x") for key in urls.key[64:]])
    strange = held(tmp_path, 7, [("http://gone.example/", b"x")])
    download.download(urls, LIMITS, tmp_path, 8)
    assert sorted(site.hits) == list(range(64)) and not strange.exists()
    assert set(pq.read_table(shard_path(tmp_path, "fetch", 1))["content"].to_pylist()) == {b"x"}
    assert (tmp_path / "log.txt").read_text().split("\n")[:2] == ["fetch 00001", "fetch 00000"]


def test_a_full_disk_loses_nothing_that_had_come(site, tmp_path):
    urls, whole = table(site, 128), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, whole[1]))
    try:
        with pytest.raises(OSError, match=r"\.came could not be written .*: free some space"):
            download.download(urls, LIMITS, tmp_path, 4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, whole)
    before = sum(len(Arrivals(path).rows) for path in (tmp_path / "fetch").glob(".*.came"))
    assert before > 10
    download.download(urls, LIMITS, tmp_path, 4)
    assert len(site.hits) == 128 and sum(site.hits.values()) <= 128 + 2 * 4
    (tmp_path / "whole").mkdir()
    download.download(urls, LIMITS, tmp_path / "whole", 4)
    assert shards(tmp_path, 2) == shards(tmp_path / "whole", 2)


def test_the_contents_of_a_shard_are_not_held_in_memory(tmp_path):
    keys = [f"http://a.example/{i}" for i in range(64)]
    came = Arrivals(held(tmp_path, 0, [(key, random.Random(key).randbytes(10**6)) for key in keys]))
    before = pa.total_allocated_bytes()
    pool = pa.default_memory_pool()
    runfolder.keep(came.table(keys, 0), tmp_path, "fetch", 0)
    assert pool.max_memory() - before < 30e6, "64 MB are written"
    found = pq.read_table(shard_path(tmp_path, "fetch", 0))["content"].to_pylist()
    assert found == [random.Random(key).randbytes(10**6) for key in keys]


def test_one_picture_of_a_shard_does_not_cost_all_of_them(tmp_path):
    (tmp_path / "fetch").mkdir()
    keys = [f"http://a.example/{k}" for k in range(64)]
    rows = [
        {"key": key, "shard": 0, "status": "ok", "http_status": 200}
        | {"content": random.Random(key).randbytes(100_000)}
        for key in keys
    ]
    runfolder.keep(pa.Table.from_pylist(rows, FETCHED), tmp_path, "fetch", 0)
    asked = pd.DataFrame({"url": [keys[40], "no url", keys[3], keys[40]], "shard": [0, None, 0, 0]})
    before = read()
    found = download.content(tmp_path, asked)
    assert read() - before < 0.4 * 64 * 100_000
    assert found == [rows[40]["content"], None, rows[3]["content"], rows[40]["content"]]


def read():
    """Bytes that this process has read."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar"))
