"""The whole site as Chromium shows it on a phone: every page, picture and formula, and the search; no other host."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from site_pages import broken, fetched, pages

from crowdloc.reproduce import notebooks, site

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PHONE = 390  # pixels: what most phones have
# Visits every page in a frame as wide as a phone, and posts what is wrong with each.
VISITOR = """<!doctype html><meta charset="utf-8"><body style="margin:0"><script>
const look = async (address, ready) => {
  const frame = document.createElement("iframe");
  frame.style = "border:0;width:PHONEpx;height:800px";
  frame.src = address;
  await new Promise(done => { frame.onload = done; document.body.append(frame); });
  const page = frame.contentDocument, window_ = frame.contentWindow, wrong = [];
  for (let i = 0; ready && i < 100 && !ready(page); i++) await new Promise(done => setTimeout(done, 100));
  if (ready && !ready(page)) wrong.push("nothing is found");
  await page.fonts.ready;
  const width = page.documentElement.scrollWidth;
  if (width > PHONE) wrong.push(`${width} pixels wide`);
  if (!page.querySelector("h1, h2")) wrong.push("no heading");
  for (const image of page.images) if (!image.complete || !image.naturalWidth) wrong.push(`no picture ${image.src}`);
  for (const maths of page.querySelectorAll("math"))
    if (maths.getBoundingClientRect().height < 4) wrong.push(`flat mathematics ${maths.textContent}`);
  const size = parseFloat(window_.getComputedStyle(page.querySelector("article") ?? page.body).fontSize);
  if (size < 14) wrong.push(`letters of ${size} pixels`);
  if (!page.querySelector('meta[name="viewport"]')) wrong.push("phones would shrink it");
  for (const {name} of window_.performance.getEntriesByType("resource"))
    if (!name.startsWith(location.origin) && !name.startsWith("data:")) wrong.push(`fetched ${name}`);
  frame.remove();
  return wrong;
};
(async () => {
  const found = {};
  try {
    for (const address of ADDRESSES) found[address] = await look(address);
    found.search = await look("/search.html?q=QUESTION", page => page.querySelector("#search-results li a"));
  } catch (error) { found.error = [String(error)]; }
  await fetch("/found", {method: "POST", body: JSON.stringify(found)});
})();
</script>"""


class Site(SimpleHTTPRequestHandler):
    """Serves a folder and the visitor, and takes what the visitor posts."""

    def __init__(self, *arguments, visitor: str, found: queue.Queue, **options) -> None:
        self.visitor, self.found = visitor, found
        super().__init__(*arguments, **options)

    def do_GET(self) -> None:
        if self.path != "/visitor":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.visitor.encode())
        return None

    def do_POST(self) -> None:
        self.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments) -> None:
        pass


def visit(folder, browser, addresses, tmp_path, question="raznet"):
    """What is wrong by address."""
    visitor = VISITOR.replace("PHONE", str(PHONE)).replace("QUESTION", question)
    visitor = visitor.replace("ADDRESSES", json.dumps([f"/{address}" for address in addresses]))
    found: queue.Queue = queue.Queue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, directory=folder, visitor=visitor, found=found))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += [f"--user-data-dir={tmp_path}/profile", "--window-size=800,900", "--remote-debugging-port=0"]
    options += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-background-networking"]
    command = [browser, *options, f"http://127.0.0.1:{server.server_port}/visitor"]
    silent = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=silent, stderr=silent, env=os.environ | {"HOME": str(tmp_path)})
    try:
        return found.get(timeout=240)
    finally:
        process.terminate()
        process.wait(20)
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def browser():
    """The path of a Chromium."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium on PATH (Debian, Ubuntu: apt install chromium): the site was not looked at")
    return found


def test_the_visitor_sees_what_is_wrong(browser, tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    wide = '<div style="width:600px">…</div><img src="lost.png"><p style="font-size:9px">'
    (folder / "bad.html").write_text(f"<!doctype html><body style='font-size:9px'>{wide}")
    (folder / "good.html").write_text('<!doctype html><meta name="viewport" content="width=device-width"><h1>Good</h1>')
    (folder / "search.html").write_text("<!doctype html><h1>None</h1>")
    found = visit(folder, browser, ["bad.html", "good.html"], tmp_path)
    assert found["/good.html"] == []
    words = " ".join(found["/bad.html"])
    assert all(word in words for word in ("608 pixels", "no heading", "lost.png", "of 9 pixels", "shrink"))
    assert "nothing is found" in found["search"]


@pytest.mark.slow
def test_the_whole_site_on_a_phone(browser, tmp_path, capfd):
    folder = tmp_path / "site"
    site.build("paper | stored\n", folder)
    assert capfd.readouterr().err == ""  # Sphinx warned of nothing
    found = pages(folder)
    assert fetched(found) == []
    assert broken(folder, found) == []
    seen_apart = ("_modules", "search.html")  # sources; the search, which is visited with a question
    names = [str(path.relative_to(folder)) for path in found if not {*seen_apart} & {*path.parts}]
    assert {f"notebooks/{path.stem}.html" for path in notebooks.numbered()} <= set(names)
    seen = visit(folder, browser, names, tmp_path)
    assert {name: wrong for name, wrong in seen.items() if wrong} == {}
    assert len(seen) == len(names) + 1
