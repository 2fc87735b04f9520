"""The pictures in the body of a request, read within bounds and kept in memory alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from hemascope.serve.limits import MEBIBYTE, Limits
from hemascope.wording import many

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MOST_HEADER_BYTES = 4096  # of one part
_RAW = ("image/", "application/octet-stream")


class Upload(NamedTuple):
    """One encoded picture and the name that its sender gave it."""

    name: str
    content: bytes


class RefusedError(Exception):
    """A request that is not answered. status: of HTTP. retry_after: in seconds, where trying again makes sense."""

    def __init__(self, status: int, sentence: str, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.status, self.retry_after = status, retry_after


@dataclass
class Held:
    """How many bytes of bodies are in memory, of all requests together. Used from the event loop alone."""

    most: int
    now: int = 0

    def take(self, count: int) -> None:
        """Raises RefusedError (429) when there is no room for so many."""
        if self.now + count > self.most:
            raise RefusedError(429, "too many uploads arrive at this time; try again in a second.", 1)
        self.now += count

    def give_back(self, count: int) -> None:
        self.now -= count


@dataclass
class Body:
    """What one request holds of the common memory; `close` gives it back."""

    held: Held
    taken: int = 0
    uploads: list[Upload] = field(default_factory=list)

    def take(self, count: int) -> None:
        self.held.take(count)
        self.taken += count

    def close(self) -> None:
        self.held.give_back(self.taken)
        self.taken = 0


async def read_body(request: Request, limits: Limits, body: Body) -> list[Upload]:
    """The pictures of a multipart form, in their order, or the one that a raw body is.

    Raises RefusedError: 400 for a body that is cut off or no form, 408 when it does not arrive in time, 413 for too
    many bytes or files, 415 for another type, 422 for no picture, 429 when the memory for uploads is full.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    media_type = kind.decode("latin-1").lower()
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > limits.bytes_request:
        raise _too_large(int(declared), limits)
    if media_type == "multipart/form-data":
        reading = _read_form(request, options.get(b"boundary", b""), limits, body)
    elif media_type.startswith(_RAW):
        reading = _read_raw(request, limits, body)
    else:
        raise RefusedError(
            415,
            f"the body is of type '{media_type[:80]}', expected multipart/form-data with pictures, or one picture as "
            "image/png, image/jpeg or another image type.",
        )
    try:
        async with asyncio.timeout(limits.body_seconds):
            uploads = await reading
    except TimeoutError as error:
        raise RefusedError(
            408, f"the body did not arrive within {limits.body_seconds:g} seconds; send it again."
        ) from (error)
    except ClientDisconnect as error:
        raise RefusedError(400, "the body ended early; send it again.") from error
    if not uploads:
        raise RefusedError(422, "the body holds no picture; expected at least one.")
    return uploads


async def _chunks(request: Request, limits: Limits, body: Body) -> AsyncIterator[bytes]:
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > limits.bytes_request:
            raise _too_large(total, limits)
        body.take(len(chunk))
        if chunk:
            yield chunk


async def _read_raw(request: Request, limits: Limits, body: Body) -> list[Upload]:
    parts: list[bytes] = []
    total = 0
    async for chunk in _chunks(request, limits, body):
        total += len(chunk)
        _check_each(total, limits, "the picture")
        parts.append(chunk)
    return [Upload("picture", b"".join(parts))] if total else []


async def _read_form(request: Request, boundary: bytes, limits: Limits, body: Body) -> list[Upload]:
    if not boundary:
        raise RefusedError(400, "the form's Content-Type names no boundary; let your client make the header.")
    form = _Form(limits)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for chunk in _chunks(request, limits, body):
            parser.write(chunk)
    except FormParserError as error:
        raise RefusedError(400, "the body is no multipart form that can be read; let your client make it.") from error
    if not form.ended:
        raise RefusedError(400, "the form ends early; send it again.")
    return form.uploads


class _Form:
    """Collects the files of a form. The parser of python-multipart calls it for each piece that it meets.

    That of Starlette is not used because it writes what is larger than a mebibyte to a temporary file.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.uploads: list[Upload] = []
        self.ended = False
        self._field = self._value = b""
        self._disposition = b""
        self._content = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.uploads) == self.limits.files:
            raise RefusedError(
                413, f"the form has more than {many(self.limits.files, 'picture')}; send them in several."
            )
        self._field = self._value = self._disposition = b""
        self._content = bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]
        self._check_header()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self._field) + len(self._value) > _MOST_HEADER_BYTES:
            raise RefusedError(400, "a part of the form has a header that is too long; let your client make the form.")

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]
        _check_each(len(self._content), self.limits, "a picture")

    def _end_part(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"filename")
        if name is None:
            field = options.get(b"name", b"").decode("utf-8", "replace")[:80]
            raise RefusedError(422, f"the field '{field}' of the form is no file, expected pictures alone.")
        self.uploads.append(Upload(name.decode("utf-8", "replace"), bytes(self._content)))

    def _end(self) -> None:
        self.ended = True


def _check_each(count: int, limits: Limits, what: str) -> None:
    if count > limits.bytes_each:
        raise RefusedError(413, f"{what} has more than {limits.bytes_each / MEBIBYTE:g} MiB; cut the cell out first.")


def _too_large(count: int, limits: Limits) -> RefusedError:
    return RefusedError(
        413,
        f"the body has {count:,} bytes or more, expected at most {limits.bytes_request:,}; send fewer pictures.",
    )
