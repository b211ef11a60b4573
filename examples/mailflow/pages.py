"""Pages: templates, files beside them, and the headers that keep mail from doing harm."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import jinja2
import msgspec
from markupsafe import Markup
from starlette.responses import Response

from examples.mailflow.mailtext import printable

if TYPE_CHECKING:
    from rolekit import Receipt

WEB = Path(__file__).parent / "web"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self';"
    " connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_FILES = {
    "style.css": ("text/css; charset=utf-8", (WEB / "style.css").read_bytes()),
    "live.js": ("text/javascript; charset=utf-8", (WEB / "live.js").read_bytes()),
    "icon.svg": ("image/svg+xml", (WEB / "icon.svg").read_bytes()),
}

_KILO = 1000


def _size(octets: int) -> str:
    size = float(octets)
    for unit in ("bytes", "kB", "MB"):
        if size < _KILO:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= _KILO
    return f"{size:.1f} GB"


def _when(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%d %b %Y, %H:%M:%S} UTC"


def _moment(moment: dt.datetime) -> Markup:
    """Write a moment for a list: short, and to the second only today."""
    moment, now = moment.astimezone(dt.UTC), dt.datetime.now(dt.UTC)
    shape = "%d %b %Y"
    if moment.date() == now.date():
        shape = "%H:%M:%S UTC"
    elif moment.year == now.year:
        shape = "%d %b, %H:%M UTC"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        moment.isoformat(), _when(moment), f"{moment:{shape}}"
    )


def _took(time: dt.timedelta) -> str:
    seconds = time.total_seconds()
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "size": _size,
        "when": _when,
        "moment": _moment,
        "took": _took,
        "printable": printable,
    }
    return environment


# All at once, in the process that forks the instances: they share them, and read no files.
_LOADED = _environment()
_TEMPLATES = {path.name: _LOADED.get_template(path.name) for path in WEB.glob("*.html")}


def page(template: str, /, status: int = 200, **values: object) -> Response:
    """Render a template of `web/`; whatever is put into it is escaped."""
    html = _TEMPLATES[template].render(**values)
    return Response(html, status, headers=HEADERS, media_type="text/html; charset=utf-8")


def not_found(what: str) -> Response:
    """Say that there is no such page."""
    return page("missing.html", 404, what=what)


def file(name: str) -> Response:
    """Serve one of the files that pages use."""
    if name not in _FILES:
        return not_found("a file of that name")
    media_type, data = _FILES[name]
    headers = HEADERS | {"Cache-Control": "max-age=60"}
    return Response(data, headers=headers, media_type=media_type)


def accepted(receipt: Receipt) -> Response:
    """Answer a program whose mail was accepted, and say where its report will be."""
    headers = {"Location": f"/mail/{receipt.id}"}
    body = msgspec.json.encode(receipt)
    return Response(body, 202, headers=headers, media_type="application/json")


def redirect(path: str) -> Response:
    """Send a browser on after a form, so that reloading does not send it again."""
    return Response(status_code=303, headers=HEADERS | {"Location": path})


def untrusted(html: str) -> Response:
    """Show a page that is not ours: it may do nothing, load nothing, and lead nowhere."""
    headers = HEADERS | {"Content-Security-Policy": "default-src 'none'; sandbox"}
    return Response(html, headers=headers, media_type="text/html; charset=utf-8")


def download(data: bytes, name: str, media_type: str = "application/octet-stream") -> Response:
    """Hand out bytes from a mail: always to be saved, never to be shown or run."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_. ") else "_" for c in name)
    disposition = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    headers = HEADERS | {
        "Content-Disposition": disposition,
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    return Response(data, headers=headers, media_type=media_type)
