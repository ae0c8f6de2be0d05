"""Promotion and rollback under traffic: ``python -m benchmarks.serving [--queries 20000] [--clients 8]``, after ``make demo``.

On a copy of the demo's workspace: version 1 serves again (rolled back), ``fct serve`` answers, and clients send image queries in an open
loop, each at its own due time whether or not earlier answers have come, at half of the rate that the server was measured to manage.
Meanwhile version 2 is promoted by ``fct promote`` (at low priority: it shares the cores here) and later rolled back by ``fct rollback``. Every answer is compared with what the
release that it names answers when nothing else goes on. Latencies are from the due time, so a server that stalls cannot hide it.
Results go to benchmarks/results/serving.json.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from registry.workspace import open_workspace

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks/results/serving.json"
K = 10
CAPACITY_S = 15.0
IMAGES = 64
AFTER_S = 3.0  # how long after the switch an answer still counts as "during"


@dataclass
class Answer:
    due: float
    seconds: float
    query: int
    status: int
    said: dict[str, Any] = field(default_factory=dict)


def project(folder: Path) -> Path:
    """A copy of the demo's workspace in a folder of its own; images and releases are the demo's."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    shutil.copytree(ROOT / params["workspace"], folder / params["workspace"], ignore=shutil.ignore_patterns("services", "prefect", "locks"))
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    (folder / "build").symlink_to(ROOT / "build")
    return folder


def fct(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command at the lowest priority: in production it is a worker's, on another machine, and takes nothing from the server."""
    command = [sys.executable, "-m", "flows.cli", *words]
    return subprocess.run(["nice", "-n", "19", *command], cwd=folder, env=environment(), capture_output=True, text=True, check=True)


def entered(folder: Path) -> float:
    """When the newest ledger entry was written, on the clock of ``time.perf_counter``."""
    entry = open_workspace(folder / "params.yaml").ledger.head()
    assert entry is not None
    return datetime.fromisoformat(entry.at).timestamp() - time.time() + time.perf_counter()


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def post(connection: http.client.HTTPConnection, image: bytes) -> tuple[int, dict[str, Any]]:
    connection.request("POST", f"/search?k={K}", image, {"Content-Type": "image/png"})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def capacity(port: int, images: list[bytes], clients: int, seconds: float = CAPACITY_S) -> float:
    """Answers a second when every client sends its next query as soon as it has the answer."""
    counts, end = [0] * clients, time.perf_counter() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.perf_counter() < end:
            status, _ = post(connection, images[(number + counts[number]) % len(images)])
            assert status == 200
            counts[number] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return sum(counts) / seconds


def open_loop(port: int, images: list[bytes], clients: int, rate: float, queries: int, begun: float) -> list[Answer]:
    """Query i is due at ``begun`` + i / rate, and belongs to client i mod ``clients``."""
    answers: list[list[Answer]] = [[] for _ in range(clients)]

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for i in range(number, queries, clients):
            due = begun + i / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            try:
                status, said = post(connection, images[i % len(images)])
            except (OSError, http.client.HTTPException, ValueError) as error:
                status, said = 0, {"error": repr(error)}
                connection.close()
            answers[number].append(Answer(due, time.perf_counter() - due, i % len(images), status, said))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return sorted((one for part in answers for one in part), key=lambda one: one.due)


def expected(port: int, images: list[bytes]) -> list[list[tuple[str, float]]]:
    """The answers to every query when nothing else goes on."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    return [hits(post(connection, image)[1]) for image in images]


def hits(said: dict[str, Any]) -> list[tuple[str, float]]:
    return [(hit["id"], hit["score"]) for hit in said["hits"]]


def ready(port: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/readyz")
    return dict(json.loads(connection.getresponse().read()))


def until(port: int, release: int, seconds: float = 300) -> float:
    """Wait until ``release`` serves and nothing is behind; the time."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        found = ready(port)
        if found["ready"] and found["release"] == release and not found["behind"]:
            return time.perf_counter()
        time.sleep(0.05)
    raise TimeoutError(f"release {release} never served: {found}")


def p(answers: list[Answer], share: float = 99) -> float:
    return round(1000 * float(np.percentile([one.seconds for one in answers], share)), 2)


def under_traffic(
    folder: Path, port: int, images: list[bytes], clients: int, rate: float, queries: int, words: list[str], to: int
) -> tuple[dict[str, Any], list[Answer]]:
    """Send ``queries`` while ``fct words`` runs after a third of them."""
    begun, seconds = time.perf_counter() + 0.5, queries / rate
    result: dict[str, Any] = {}

    def change() -> None:
        time.sleep(max(0.0, begun + seconds / 3 - time.perf_counter()))
        result["typed"] = time.perf_counter()
        fct(folder, *words)
        result["done"] = time.perf_counter()
        result["switched"] = until(port, to)
        result["entered"] = entered(folder)

    thread = threading.Thread(target=change)
    thread.start()
    answers = open_loop(port, images, clients, rate, queries, begun)
    thread.join()
    before = [one for one in answers if one.due < result["typed"]]
    # all the while: from the command, which works on the same cores in another process, until the exchange and a little longer
    switching = [one for one in answers if result["typed"] <= one.due < result["switched"] + AFTER_S]
    # the switch: from the ledger entry, which the server follows, while it verifies, opens and warms the next revision beside this one
    switch = [one for one in answers if result["entered"] <= one.due < result["switched"] + AFTER_S]
    assert before and switch and result["switched"] < answers[-1].due, "too few queries: the switch came after the last of them"
    figures = {
        "queries": len(answers),
        "rate_per_s": round(rate, 1),
        "failures": sum(one.status != 200 for one in answers),
        "p50_before_ms": p(before, 50),
        "p99_before_ms": p(before),
        "p99_while_it_goes_on_ms": p(switching),
        "p99_ratio_while_it_goes_on": round(p(switching) / p(before), 2),
        "p99_switch_ms": p(switch),
        "p99_ratio_switch": round(p(switch) / p(before), 2),
        "queries_switch": len(switch),
        "opening_s": round(result["switched"] - result["entered"], 2),
        "command_s": round(result["done"] - result["typed"], 2),
        "releases": sorted({one.said.get("release") for one in answers if one.status == 200}),
    }
    return figures, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    sys.setswitchinterval(0.0001)  # the clients' own threads must not wait for each other
    with tempfile.TemporaryDirectory() as place:
        folder = project(Path(place))
        entered(folder)  # imports what it needs now, not while the clients' clocks run
        fct(folder, "rollback", "--by", "benchmark", "--why", "version 1 serves again")
        files = sorted((ROOT / "build/data/images/validation").rglob("*.png"))
        chosen = np.random.default_rng(0).permutation(len(files))[:IMAGES]
        images = [files[i].read_bytes() for i in chosen]
        command = [sys.executable, "-m", "flows.cli", "serve", "--port", "0"]
        server = subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True)
        try:
            assert server.stderr is not None
            port = next(int(line.split(":")[2].split()[0]) for line in server.stderr if line.startswith("http://"))
            threading.Thread(target=lambda: [None for _ in server.stderr or ()], daemon=True).start()
            most = capacity(port, images, options.clients)
            answers_of = {1: expected(port, images)}
            promoted, first = under_traffic(folder, port, images, options.clients, most / 2, options.queries, ["promote", "2"], 2)
            answers_of[2] = expected(port, images)
            words = ["rollback", "--by", "benchmark", "--why", "back"]
            back, second = under_traffic(folder, port, images, options.clients, most / 2, options.queries, words, 1)
            bit_equal = expected(port, images) == answers_of[1]
        finally:
            server.terminate()
            server.wait(30)
    for result, answers in ((promoted, first), (back, second)):
        result["mixed"] = sum(one.status == 200 and hits(one.said) != answers_of[one.said["release"]][one.query] for one in answers)
    result = {
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}; clients, command and server share them",
        "clients": options.clients,
        "capacity_per_s": round(most, 1),
        "promotion": promoted,
        "rollback": back | {"answers_equal_bit_for_bit_to_before_the_promotion": bit_equal},
    }
    OUT.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2, sort_keys=True))


if __name__ == "__main__":
    main()
