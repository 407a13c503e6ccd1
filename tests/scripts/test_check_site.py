"""What counts as loaded from the network in a built site, and what is only a link."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.conftest import ROOT

spec = importlib.util.spec_from_file_location("check_site", ROOT / "scripts" / "check_site.py")
assert spec is not None
assert spec.loader is not None
check_site = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_site)


@pytest.mark.parametrize(
    "loading",
    [
        '<script src="https://cdn.example.org/a.js"></script>',
        '<link rel="stylesheet" href="//fonts.example.org/css">',
        '<link href="https://fonts.example.org" rel="preconnect">',
        '<img src="HTTP://example.org/a.png">',
        '<p style="background: url(https://example.org/a.png)">',
        "<style>@import 'https://example.org/a.css';</style>",
        '<pre class="mermaid">graph</pre>',
        '<a data-md-component="source" href="https://example.org/repository">',
    ],
)
def test_check_site_page_that_loads_from_elsewhere_fails(loading: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(f"<html><body>{loading}</body></html>")
    assert len(check_site.find_remote(tmp_path)) == 1
    assert check_site.main(str(tmp_path)) == 2


def test_check_site_stylesheet_that_loads_from_elsewhere_fails(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<html></html>")
    (tmp_path / "a.css").write_text("@font-face { src: url('https://example.org/a.woff2') }")
    assert check_site.find_remote(tmp_path) == ["a.css: https://example.org/a.woff2"]


def test_check_site_own_files_and_links_pass(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<link rel="stylesheet" href="assets/a.css"><link rel="canonical" href="https://example.org/">'
        '<script src="assets/a.js"></script><a href="https://example.org/">a link</a><code>url(https://x.org)</code>'
    )
    assert check_site.main(str(tmp_path)) == 0


def test_check_site_no_site_fails(tmp_path: Path) -> None:
    assert check_site.main(str(tmp_path)) == 2
