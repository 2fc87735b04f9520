"""The service as a process: started by its command, asked over a socket, stopped by a signal."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hemascope import audit
from hemascope.data import load
from hemascope.errors import InputError
from hemascope.serve.running import address_of, exposure, listening, service
from hemascope.synthetic import draw_cells


def a_picture() -> bytes:
    file = BytesIO()
    Image.fromarray(np.asarray(draw_cells(1, seed=1).images[0])).save(file, "PNG")
    return file.getvalue()


def ask(port: int, content: bytes) -> tuple[int, bytes]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", "/v1/predict", content, {"content-type": "image/png"})
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_a_signal_loses_nothing_that_was_accepted() -> None:
    content = a_picture()
    with service("serve", "small") as (process, port):
        # A request whose body is still on its way when the signal comes has been accepted all the same.
        slow = socket.create_connection(("127.0.0.1", port), timeout=30)
        head = (
            f"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\ncontent-length: {len(content)}"
        )
        slow.sendall(head.encode() + b"\r\n\r\n" + content[:100])
        answers: list[tuple[int, bytes]] = []
        clients = [threading.Thread(target=lambda: answers.append(ask(port, content))) for _ in range(12)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        slow.sendall(content[100:])
        told = b""
        while part := slow.recv(65536):
            told += part
        slow.close()
        assert told.startswith(b"HTTP/1.1 200")
        assert json.loads(told.partition(b"\r\n\r\n")[2])["pictures"][0]["label"]
        assert [status for status, _ in answers] == [200] * 12
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0
        assert "stopped by SIGTERM; everything that was accepted has been answered." in said


def test_a_taken_port_is_said_in_a_sentence() -> None:
    with listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert address_of(listener) == f"http://127.0.0.1:{port}/"
        with pytest.raises(InputError, match=f"port {port}: cannot be listened on"):
            listening("127.0.0.1", port)


def test_only_what_others_reach_is_warned_of() -> None:
    assert exposure("127.0.0.1", None) is None
    open_to_all, guarded = exposure("0.0.0.0", None), exposure("0.0.0.0", "secret")
    assert open_to_all is not None
    assert "--token" in open_to_all
    assert guarded is not None
    assert "--token" not in guarded


def test_a_service_that_does_not_start_says_why() -> None:
    with (
        pytest.raises(InputError, match=r"did not start: hemascope: .*there is no such file"),
        service("serve", "none"),
    ):
        pass


def test_the_command_refuses_what_makes_no_sense() -> None:
    environment = {**os.environ, "HEMASCOPE_TOKEN": " "}
    command = [sys.executable, "-m", "hemascope", "serve", "small", "--port", "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "the token is empty" in done.stderr


def test_review_opens_on_what_an_audit_wrote(tmp_path: Path) -> None:
    cells = draw_cells(120, seed=6, size=32, dirty=True)
    np.savez(tmp_path / "cells.npz", images=np.asarray(cells.images), labels=cells.labels)
    audit(load(tmp_path / "cells.npz")).write(tmp_path / "findings")
    places = [f"{tmp_path}/findings", f"{tmp_path}/cells.npz", "--decisions", f"{tmp_path}/mine.csv"]
    with service("review", *places, "--sample", "5") as (process, port):
        with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("GET", "/v1/review")
            told = json.loads(connection.getresponse().read())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == 0
    assert told["file"] == str(tmp_path / "mine.csv")
    assert told["items"][0]["issue"] == "not_a_cell"
    assert len(told["spot"]["pictures"]) == 5


def test_review_of_nothing_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "cells.npz", images=np.asarray(draw_cells(8, size=32).images), labels=np.arange(8))
    command = [sys.executable, "-m", "hemascope", "review", f"{tmp_path}/cells.npz", "--sample", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "there is nothing to review" in done.stderr
