"""Whether a built documentation site loads anything from the network; a link that a reader may follow is none.

python scripts/check_site.py site
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

LOADED = {"src", "srcset", "poster", "data", "background"}  # attributes that a browser follows by itself
LINKS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "preconnect", "dns-prefetch", "manifest"}
REMOTE = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)
IN_CSS = re.compile(r"(?:url\(|@import)\s*['\"]?\s*((?:https?:)?//[^'\")\s]+)", re.IGNORECASE)
STYLE = re.compile(r"<style.*?</style>", re.DOTALL | re.IGNORECASE)


class Assets(HTMLParser):
    """Remote addresses that a page loads, in `remote`."""

    def __init__(self) -> None:
        super().__init__()
        self.remote: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        loaded = [values[name] for name in LOADED & set(values)]
        if tag == "link" and LINKS & set(values.get("rel", "").lower().split()):
            loaded.append(values.get("href", ""))
        self.remote += [address for address in loaded if REMOTE.match(address)]
        self.remote += IN_CSS.findall(values.get("style", ""))
        # the theme's script fetches the library that draws a diagram, and the stars of a repository that is named
        if "mermaid" in values.get("class", "").split():
            self.remote.append("the mermaid library")
        if values.get("data-md-component") == "source":
            self.remote.append("facts of the repository (repo_url)")


def find_remote(site: Path) -> list[str]:
    """A line "PAGE: ADDRESS" for everything in the site's pages and stylesheets that comes from elsewhere."""
    lines = []
    for file in sorted(site.rglob("*")):
        if file.suffix not in (".html", ".css"):
            continue
        text = file.read_text(encoding="utf-8")
        page = Assets()
        if file.suffix == ".html":
            page.feed(text)
            text = "".join(STYLE.findall(text))
        remote = page.remote + IN_CSS.findall(text)
        lines += [f"{file.relative_to(site)}: {address}" for address in remote]
    return lines


def main(folder: str) -> int:
    """0, or 2 where there is no page or one that loads something."""
    site = Path(folder)
    if not (site / "index.html").is_file():
        print(f"{folder}: no index.html; build the site first")
        return 2
    lines = find_remote(site)
    print("\n".join([*lines, f"{folder}: {len(lines)} loads from the network"]))
    return 2 if lines else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
