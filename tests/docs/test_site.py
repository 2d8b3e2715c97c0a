# SPDX-License-Identifier: Apache-2.0
"""The built site in a real browser: every page, wide and narrow, light and dark.

``make test-site`` builds the site and runs this.
"""

import asyncio
import functools
import http.server
import re
import threading
from pathlib import Path

import pytest

pytest.importorskip("tornado", reason="needs the extra docs")
from tests.docs.browser import PROGRAM, Browser, hosts

SITE = Path(__file__).parents[2] / "docs" / "_build" / "html"
PAGES = sorted(
    page.relative_to(SITE).as_posix()
    for page in SITE.rglob("*.html")
    if not {"_static", "_modules"} & set(page.parts)
)
WORDS = (
    "AdamW Variable checkpoint restore vmap for_loop grad attach brainpy schedule "
    "donation freeze EMA Manager sharding groups trace slots RandomState while_loop"
).split()
SHAPES = [(1360, False), (1360, True), (390, False), (390, True)]
OVERFLOW = """(() => {
  const wide = document.documentElement.scrollWidth;
  return wide > window.innerWidth + 1 ? wide : 0;
})()"""
SCROLLING_CODE = """[...document.querySelectorAll("article div.highlight pre")]
  .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText.slice(0, 60))"""
BROKEN_PICTURES = "[...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
LINKS = "[...document.querySelectorAll('a[href]')].map(a => a.href)"
RESULTS = "document.querySelectorAll('#search-results ul.search > li').length"

pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(PROGRAM is None, reason="there is no chromium"),
    pytest.mark.skipif(not PAGES, reason="the site is not built: make docs"),
]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def address():
    handler = functools.partial(_Quiet, directory=SITE)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def seen(address):
    """What every page shows in every shape, and where its links lead."""

    async def look():
        found, links = {}, set()
        async with Browser() as browser:
            for page in PAGES:
                await browser.open(address + page)
                for width, dark in SHAPES:
                    await browser.shape(width, dark)
                    found[page, width, dark] = {
                        "errors": list(browser.errors),
                        "hosts": hosts(browser.requests) - {"127.0.0.1"},
                        "overflow": await browser.run(OVERFLOW),
                        "pictures": await browser.run(BROKEN_PICTURES),
                        "code": width > 1000 and await browser.run(SCROLLING_CODE),
                    }
                links.update(await browser.run(LINKS))
        return found, links

    return asyncio.run(look())


@pytest.mark.parametrize("fault", ["errors", "hosts", "overflow", "pictures", "code"])
def test_no_page_shows_a_fault_in_any_shape(seen, fault):
    assert not {page: s[fault] for page, s in seen[0].items() if s[fault]}


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.split("/")[0] in ("start", "guide", "how-to")]
)
def test_a_page_leads_to_others(page):
    text = (SITE / page).read_text("utf-8")
    article = text[text.index("<article") : text.index("</article>")]

    assert re.search(r'<a class="reference internal" href="[^#]', article)


def test_links_within_the_site_lead_somewhere(seen, address):
    own = {link.partition("#")[0] for link in seen[1] if link.startswith(address)}
    paths = {
        link.removeprefix(address).partition("?")[0] or "index.html" for link in own
    }

    assert not {path for path in paths if not (SITE / path).exists()}


def test_the_search_finds_what_people_look_for(address):
    async def look():
        empty = []
        async with Browser() as browser:
            for word in WORDS:
                await browser.open(f"{address}search.html?q={word}")
                for _ in range(50):
                    if await browser.run(RESULTS):
                        break
                    await asyncio.sleep(0.1)
                else:
                    empty.append(word)
        return empty

    assert not asyncio.run(look())
