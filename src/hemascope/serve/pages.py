"""The files of the pages, read once and served from memory."""

from __future__ import annotations

import hashlib
from importlib import resources

from fastapi import FastAPI
from jinja2 import Environment, PackageLoader
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# The reports and the pages look alike, so that they share the style.
_STYLE = ("templates", "page.css")


_FRAME = "frame.html.j2"


class Pages:
    """The pages of `serve/web`: each file's content, type and tag, so that a browser asks for it once.

    NAME.html.j2 is made into NAME.html, with the head, the bar and the foot that all of them have.
    """

    def __init__(self) -> None:
        web = resources.files("hemascope.serve") / "web"
        files = {file.name: file.read_bytes() for file in web.iterdir() if file.name.endswith(tuple(_TYPES))}
        templates = Environment(
            loader=PackageLoader("hemascope.serve", "web"), autoescape=True, keep_trailing_newline=True
        )
        for name in templates.list_templates(extensions=["j2"]):
            if name != _FRAME:
                files[name.removesuffix(".j2")] = templates.get_template(name).render().encode()
        files["page.css"] = resources.files("hemascope").joinpath(*_STYLE).read_bytes()
        self._files = {
            name: (content, _TYPES["." + name.rpartition(".")[2]], f'"{hashlib.sha256(content).hexdigest()[:16]}"')
            for name, content in files.items()
        }

    def answer(self, request: Request, name: str) -> Response:
        """One file, or 304 where the browser has it already. Raises HTTPException (404) when there is none."""
        if name not in self._files:
            raise HTTPException(404, "there is no such file.")
        content, media_type, tag = self._files[name]
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)


def add_pages(app: FastAPI, front: str) -> None:
    """Serve `front` at / and the other files at /assets/NAME."""
    pages = Pages()

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return pages.answer(request, front)

    @app.get("/assets/{name}", include_in_schema=False)
    async def asset(request: Request, name: str) -> Response:
        return pages.answer(request, name)
