"""What the web service bears: many clients, broken requests, and a stop under load.

    python bench/serve.py [--seconds 60] [--clients 200] [--mutants 1000] [--examples 100]
                          [--only load,mutants,stop,schema]

It needs no data: the pictures are drawn by a program. The service is `hemascope serve small`, a process of its own; the
clients run in this one, on the same cores, which the figures bear.

load: clients with an open connection each send 1, 4, 8 or 16 pictures at a time, half of them JPEG and half PNG, and
try again after a 429 as it says. Every answer is compared with the model's own when the load is over. Tells the
pictures answered a second beside the rate of the local engine (`Model.answers` on whole batches in memory, measured
just before and after), the latency of accepted requests, and the memory of the service over time.
mutants: pictures and bodies with bytes changed, cut, doubled and put in; none may get a 5xx or no answer.
stop: SIGTERM while 50 clients ask; whatever was sent before the signal must be answered in full.
schema: schemathesis asks whatever /openapi.json allows, and much that it does not.

The last line printed is one line of JSON with every figure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hemascope.runtime import Model, load_model
from hemascope.serve.running import service
from hemascope.synthetic import draw_cells

SIZES = (1, 4, 8, 16)
DRAWN = 192
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")
HANGS_AFTER = 20.0
BOUNDARY = b"bench7f3a"
Figures = dict[str, Any]


def encoded(pixels: Any, kind: str = "PNG") -> bytes:
    file = BytesIO()
    Image.fromarray(np.asarray(pixels)).save(file, kind)
    return file.getvalue()


def decoded(content: bytes) -> Any:
    with Image.open(BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def request_of(contents: Sequence[tuple[str, bytes]]) -> bytes:
    """A whole HTTP request with some pictures in a form."""
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="pictures"; filename="%s"\r\n\r\n%s\r\n'
        % (BOUNDARY, name.encode(), content)
        for name, content in contents
    ]
    body = b"".join(parts) + b"--%s--\r\n" % BOUNDARY
    return whole(body, b"multipart/form-data; boundary=" + BOUNDARY)


def whole(body: bytes, media_type: bytes) -> bytes:
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    return head % (media_type, len(body)) + body


@dataclass
class Answer:
    """One HTTP answer as it came: status, Retry-After in seconds, body."""

    status: int
    retry_after: float
    body: bytes


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Raises IncompleteReadError or ConnectionError when the connection ends before the answer does."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    fields = dict(
        line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if b": " in line
    )  # names come in any case
    body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
    return Answer(status, float(fields.get(b"retry-after", b"1")), body)


def local_rate(model: Model, images: Any, seconds: float) -> float:
    """Pictures a second of the engine itself, in whole batches."""
    model.answers(images[:64])
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        model.answers(images[:128])
        count += 128
    return count / (time.perf_counter() - started)


@dataclass
class Seen:
    """What the clients of a load have seen."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    answers: list[tuple[list[int], bytes]] = field(default_factory=list)
    """What was asked, as rows, and the body that came."""
    broken: int = 0

    def checked(self, expected: Any, classes: Sequence[str]) -> tuple[int, int]:
        """How many pictures were answered, and how many requests were answered wrongly."""
        pictures = wrong = 0
        for rows, body in self.answers:
            told = json.loads(body)["pictures"]
            pictures += len(told)
            names = [picture["name"] for picture in told]
            found = [[picture["probabilities"][name] for name in classes] for picture in told]
            right = names == [f"{row}.png" for row in rows] and np.allclose(found, expected[rows], atol=2e-4)
            wrong += not right
        return pictures, wrong


async def client(number: int, port: int, contents: list[bytes], end: float, seen: Seen) -> None:
    drawn = random.Random(number)
    size = SIZES[number % len(SIZES)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < end:
        rows = [drawn.randrange(len(contents)) for _ in range(size)]
        asked = request_of([(f"{row}.png", contents[row]) for row in rows])
        while True:
            started = time.perf_counter()
            try:
                writer.write(asked)
                answer = await asyncio.wait_for(read_answer(reader), HANGS_AFTER)
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                seen.broken += 1
                return
            seen.statuses[answer.status] += 1
            if answer.status != 429 or time.perf_counter() > end:
                break
            wait = answer.retry_after * (0.5 + drawn.random())
            await asyncio.sleep(max(0.0, min(wait, end - time.perf_counter())))
        if answer.status != 200:
            continue
        seen.latencies.append(time.perf_counter() - started)
        seen.answers.append((rows, answer.body))
    writer.close()


async def memory_of(process: int, until: float) -> list[float]:
    """The resident memory in MiB, once a second."""
    found = []
    while time.perf_counter() < until:
        text = Path(f"/proc/{process}/status").read_text()
        found.append(int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024)
        await asyncio.sleep(1)
    return found


def load(clients: int, seconds: float) -> Figures:
    drawn = np.asarray(draw_cells(DRAWN, seed=1).images)
    contents = [encoded(pixels, ("JPEG", "PNG")[row % 2]) for row, pixels in enumerate(drawn)]
    images = np.stack([decoded(content) for content in contents])
    model = load_model("small")
    expected = model.predict(images)
    rates = [local_rate(model, images, min(10, seconds / 4))]
    seen = Seen()

    async def all_of_them(process: int, port: int) -> list[float]:
        end = time.perf_counter() + seconds
        ask = (client(number, port, contents, end, seen) for number in range(clients))
        memory = asyncio.create_task(memory_of(process, end))
        await asyncio.gather(*ask)
        return await memory

    with service("serve", "small") as (process, port):
        asyncio.run(client(0, port, contents, time.perf_counter() + 1, Seen()))
        started = time.perf_counter()
        memory = asyncio.run(all_of_them(process.pid, port))
        took = time.perf_counter() - started
    rates.append(local_rate(model, images, min(10, seconds / 4)))
    pictures, wrong = seen.checked(expected, model.class_names)
    rate, local = pictures / took, float(np.mean(rates))
    p50, p99 = np.quantile(seen.latencies, [0.5, 0.99]) if seen.latencies else (float("nan"),) * 2
    # The first fifth fills pools and buffers.
    settled = memory[len(memory) // 5 :] or memory
    figures = {
        "clients": clients,
        "seconds": round(took, 1),
        "statuses": dict(seen.statuses),
        "broken": seen.broken,
        "wrong": wrong,
        "pictures_a_second": round(rate, 1),
        "local_pictures_a_second": [round(value, 1) for value in rates],
        "share_of_local": round(rate / local, 3),
        "p50_seconds": round(float(p50), 3),
        "p99_seconds": round(float(p99), 3),
        "memory_mib": [round(settled[0]), round(max(settled)), round(settled[-1])],
    }
    only_429 = set(seen.statuses) <= {200, 429} and not seen.broken
    figures["holds"] = bool(only_429 and not wrong and rate >= 0.7 * local and p99 <= 1.5)
    return figures


def mutated(content: bytes, drawn: random.Random) -> bytes:
    """The same bytes with one to four accidents."""
    changed = bytearray(content)
    for _ in range(drawn.randint(1, 4)):
        at = drawn.randrange(len(changed) + 1)
        kind = drawn.randrange(5)
        if kind == 0 and at < len(changed):
            changed[at] = drawn.randrange(256)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            changed[at:at] = drawn.randbytes(drawn.randint(1, 64))
        elif kind == 3:
            changed[at:at] = changed[at : at + drawn.randint(1, 200)]
        else:
            del changed[at : at + drawn.randint(1, 200)]
    return bytes(changed)


async def sent(port: int, asked: bytes) -> int:
    """The status of a request on a connection of its own; 0 where the service closed it, -1 where nothing came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(asked)
        return (await asyncio.wait_for(read_answer(reader), HANGS_AFTER)).status
    except (OSError, asyncio.IncompleteReadError):
        return 0
    except TimeoutError:
        return -1
    finally:
        writer.close()


def mutants(count: int) -> Figures:
    drawn = random.Random(0)
    images = np.asarray(draw_cells(8, seed=2).images)
    pictures = [encoded(images[row % 8], kind) for row, kind in enumerate(FORMATS * 2)]

    def one(number: int) -> bytes:
        content = mutated(drawn.choice(pictures), drawn)
        if number % 3 == 0:
            return whole(content, b"image/png")
        asked = request_of([("a.png", content), ("b.png", drawn.choice(pictures))])
        if number % 3 == 1:
            return asked
        _, _, body = asked.partition(b"\r\n\r\n")
        kind = b"multipart/form-data; boundary=" + BOUNDARY
        return whole(mutated(body, drawn), mutated(kind, drawn).translate(None, b"\r\n") if number % 2 else kind)

    statuses: Counter[int] = Counter()
    with service("serve", "small") as (process, port):
        for number in range(count):
            statuses[asyncio.run(sent(port, one(number)))] += 1
        good = asyncio.run(sent(port, request_of([("a.png", pictures[0])])))
        alive = process.poll() is None
    return {
        "requests": count,
        "statuses": dict(statuses),
        "holds": bool(alive and good == 200 and min(statuses) > 0 and max(statuses) < 500),
    }


def stop(clients: int = 50) -> Figures:
    content = encoded(draw_cells(1, seed=3).images[0])
    asked = request_of([(f"{row}.png", content) for row in range(4)])
    outcomes: Counter[str] = Counter()
    signalled: list[float] = []

    async def one(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            started = time.perf_counter()
            try:
                writer.write(asked)
                await writer.drain()
                answer = await asyncio.wait_for(read_answer(reader), HANGS_AFTER)
            except (OSError, asyncio.IncompleteReadError):
                # What is written while the service closes an idle connection was never accepted.
                before = not signalled or started < signalled[0] - 0.05
                outcomes["lost" if before else "refused"] += 1
                return
            except TimeoutError:
                outcomes["hung"] += 1
                return
            late = bool(signalled) and started < signalled[0]
            outcomes["answered after the signal" if late else f"status {answer.status}"] += 1
            if answer.status == 429:
                await asyncio.sleep(0.2)

    async def all_of_them(process: subprocess.Popen[str], port: int) -> None:
        async def signalling() -> None:
            await asyncio.sleep(4)
            signalled.append(time.perf_counter())
            process.send_signal(signal.SIGTERM)

        await asyncio.gather(signalling(), *(one(port) for _ in range(clients)))

    with service("serve", "small") as (process, port):
        asyncio.run(all_of_them(process, port))
        status = process.wait(30)
    good = status == 0 and not outcomes["lost"] and not outcomes["hung"] and outcomes["answered after the signal"] > 0
    return {"outcomes": dict(outcomes), "exit_status": status, "holds": bool(good)}


def schema(examples: int) -> Figures:
    with service("serve", "small") as (_, port), tempfile.TemporaryDirectory() as room:
        address = f"http://127.0.0.1:{port}/openapi.json"
        words = ["--max-examples", str(examples), "--request-timeout", str(HANGS_AFTER), "--seed", "1"]
        # No schema can say which bytes are a picture of a cell, so that some that it allows are refused.
        words += ["--exclude-checks", "positive_data_acceptance"]
        command = [sys.executable, "-m", "schemathesis.cli", "run", address, *words]
        done = subprocess.run(command, cwd=room, capture_output=True, text=True, timeout=280, check=False)
    print(done.stdout[-6000:])
    return {"exit_status": done.returncode, "holds": done.returncode == 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--mutants", type=int, default=1000)
    parser.add_argument("--examples", type=int, default=100, help="how many schemathesis makes for each check")
    parser.add_argument("--only", default="load,mutants,stop,schema")
    given = parser.parse_args()
    parts: dict[str, Callable[[], Figures]] = {
        "load": lambda: load(given.clients, given.seconds),
        "mutants": lambda: mutants(given.mutants),
        "stop": stop,
        "schema": lambda: schema(given.examples),
    }
    figures: Figures = {"cores": len(os.sched_getaffinity(0)), "busy": round(os.getloadavg()[0], 1)}
    for name in given.only.split(","):
        figures[name] = parts[name]()
        print(f"{name}: {figures[name]}", flush=True)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
