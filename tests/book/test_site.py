"""The built site in a real browser without network: every page, light, dark and on a phone.

Each page is opened once, and what is found on it is kept; the tests read the findings.
"""

import io
import math
import re
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vad_helpers.run import steps
from vad_helpers.viz.explorer import clip_labels

pytestmark = pytest.mark.slow

MAX_PAGE_BYTES = 5_000_000
MAX_EXPLORER_BYTES = 3_000_000
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}
THEMES = ("light", "dark")
LOCAL = ("file:", "data:", "blob:", "about:")
# What the theme and an extension tell the console of every page; no faults.
CHATTER = ("[PST]: ", "[togglebutton]: ")
# The bar that sticks to the top lies over pictures; colours fade in.
STILL = "* { transition: none !important }"
NO_BAR = ".bd-header-article { visibility: hidden }"
# WCAG 2.1, levels A and AA. Contrast is the slow part, and the one that a theme changes.
RULES = {
    "structure": {
        "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"],
        "rules": {"color-contrast": {"enabled": False}},
    },
    "contrast": {"runOnly": {"type": "rule", "values": ["color-contrast"]}},
}
# Cells of a table and words of code look alike: three of a kind are enough to judge contrast.
MARK_REPEATED = """seen => {
  const kind = e => e ? e.tagName + "." + e.className : "";
  for (const e of document.querySelectorAll("article *")) {
    if (e.childElementCount) continue;
    const key = [e, e.parentElement, e.parentElement.parentElement].map(kind).join(" < ");
    seen[key] = (seen[key] ?? 0) + 1;
    if (seen[key] > 3) e.dataset.repeated = "";
  }
  return seen;
}"""


@pytest.fixture(scope="module")
def html(built_book):
    return built_book[0] / "_build" / "html"


@pytest.fixture(scope="module")
def names(built_book):
    contents = (built_book[0] / "_toc.yml").read_text()
    return [*re.findall(r"(?:root|file): (\S+)", contents), "genindex", "search"]


@pytest.fixture(scope="module")
def context(html, chromium):  # the site first: it is built by notebooks, without a browser around
    context = chromium.new_context(viewport=DESKTOP)
    context.set_offline(True)
    yield context
    context.close()


@pytest.fixture(scope="module")
def axe():
    module = pytest.importorskip("axe_playwright_python.sync_playwright")
    return module.Axe()


@pytest.fixture(scope="module")
def visits(html, names, context, axe):
    seen = {}
    return {name: visit(context, axe, html / f"{name}.html", name, seen) for name in names}


def visit(context, axe, file, name, seen):
    """Open a page, and give what is found on it; `seen` counts kinds of elements of all pages."""
    found = SimpleNamespace(name=name, size=file.stat().st_size, violations={})
    found.noise, found.requests, found.failed = [], [], []
    page = context.new_page()
    page.on("console", lambda message: found.noise.append(message.text))
    page.on("pageerror", lambda error: found.noise.append(str(error)))
    page.on("request", lambda request: found.requests.append(request.url))
    page.on("requestfailed", lambda request: found.failed.append(request.url))
    open_page(page, file)
    page.add_style_tag(content=STILL)
    found.violations["structure"] = serious(axe, page, "structure")
    seen.update(page.evaluate(MARK_REPEATED, seen))
    for theme in THEMES:
        set_theme(page, theme)
        found.violations[theme] = serious(axe, page, "contrast", exclude="[data-repeated]")
    found.images = page.eval_on_selector_all(
        "img", "all => all.map(i => ({alt: i.getAttribute('alt'), src: i.src.slice(0, 200)}))"
    )
    found.links = page.eval_on_selector_all("a[href]", "all => all.map(a => a.href)")
    found.anchors = set(page.eval_on_selector_all("[id]", "all => all.map(e => e.id)"))
    page.set_viewport_size(PHONE)
    found.overflow = page.evaluate(OVERFLOW)
    page.close()
    return found


# How far the page scrolls sideways, and which of its parts stick out.
OVERFLOW = """() => {
  const wide = document.scrollingElement.scrollWidth - innerWidth;
  const article = document.querySelector("article");
  const out = wide > 0 ? [...document.querySelectorAll("article *")]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
    .map(e => e.tagName + "." + e.className) : [];
  return {pixels: wide, parts: out.slice(0, 5)};
}"""


def open_page(page, file):
    page.goto(file.as_uri())
    page.wait_for_load_state("load")
    if page.locator(".vad-explorer").count():
        page.wait_for_selector(".vad-explorer[data-state=ready]")


def set_theme(page, theme):
    page.evaluate(
        "theme => Object.assign(document.documentElement.dataset, {theme, mode: theme})", theme
    )


def serious(axe, page, rules, exclude="[data-none]"):
    """Rules that are broken seriously, and where."""
    options = {**RULES[rules], "resultTypes": ["violations"], "preload": False}
    found = axe.run(page, context={"exclude": [[exclude]]}, options=options)
    return [
        (one["id"], node["html"][:160])
        for one in found.response["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def test_pages_open_without_a_word_in_the_console(visits):
    noise = [(v.name, text) for v in visits.values() for text in v.noise]
    assert [one for one in noise if not one[1].startswith(CHATTER)] == []


def test_pages_ask_for_nothing_outside_and_find_all_they_ask_for(visits):
    outside = {url for v in visits.values() for url in v.requests if not url.startswith(LOCAL)}
    assert outside == set()
    assert {v.name: v.failed for v in visits.values() if v.failed} == {}
    assert all(v.requests for v in visits.values())


def test_no_page_scrolls_sideways_on_a_phone(visits):
    assert {v.name: v.overflow for v in visits.values() if v.overflow["pixels"] > 0} == {}


@pytest.mark.parametrize("part", ["structure", *THEMES])
def test_no_page_has_a_serious_fault_of_accessibility(visits, part):
    faults = {v.name: v.violations[part] for v in visits.values() if v.violations[part]}
    assert faults == {}


def test_every_image_has_a_meaningful_text_or_an_empty_one(visits):
    images = [(v.name, image) for v in visits.values() for image in v.images]
    assert len(images) > 20
    for name, image in images:
        assert image["alt"] == "" or len(image["alt"].split()) >= 3, (name, image)


def test_pages_with_their_images_stay_in_the_budget(visits):
    for found in visits.values():
        sources = {image["src"] for image in found.images}
        files = {unquote(urlsplit(one).path) for one in sources if one.startswith("file:")}
        total = found.size + sum(Path(file).stat().st_size for file in files)
        assert total < MAX_PAGE_BYTES, (found.name, total)
    explorer = next(v for v in visits.values() if v.name.endswith("explorer"))
    assert explorer.size < MAX_EXPLORER_BYTES + 100_000  # the page around it


def test_internal_links_and_their_anchors_lead_somewhere(visits, html):
    broken = []
    for found in visits.values():
        for link in found.links:
            parts = urlsplit(link)
            if parts.scheme != "file":
                continue
            target = Path(unquote(parts.path))
            name = str(target.relative_to(html.resolve()).with_suffix(""))
            known = visits[name].anchors if name in visits else None
            missing = parts.fragment and known is not None and unquote(parts.fragment) not in known
            if not target.is_file() or missing:
                broken.append((found.name, link))
    assert broken == []


# --- the themes leave measurements alone --------------------------------------------------------


def shots(page, selector):
    """Pixels of every visible element that matches, without the edges it shares with the page."""
    whole = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    boxes = page.locator(selector).evaluate_all(
        "all => all.map(e => e.getBoundingClientRect())"
        ".map(b => [b.left, b.top + scrollY, b.right, b.bottom + scrollY])"
    )
    inner = [
        (math.ceil(left) + 1, math.ceil(top) + 1, math.floor(right) - 1, math.floor(bottom) - 1)
        for left, top, right, bottom in boxes
        if right > left
    ]
    return [np.asarray(whole.crop(box)) for box in inner]


@pytest.mark.parametrize(
    ("name", "selector"),
    [
        ("notebooks/03_qualitative_heatmaps", ".cell_output img"),
        ("book/explorer", ".vad-explorer canvas"),
        ("book/intro", "article img"),
    ],
)
def test_heatmaps_have_the_same_pixels_in_light_and_dark(html, context, name, selector):
    page = context.new_page()
    page.emulate_media(reduced_motion="reduce")
    open_page(page, html / f"{name}.html")
    page.add_style_tag(content=STILL + NO_BAR)
    both, grounds = [], []
    for theme in THEMES:
        set_theme(page, theme)
        both.append(shots(page, selector))
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    page.close()
    assert grounds[0] != grounds[1]  # it is dark indeed
    light, dark = both
    assert len(light) == len(dark) > 0
    for a, b in zip(light, dark, strict=True):
        assert np.ptp(a) > 50
        np.testing.assert_array_equal(a, b)


def test_the_best_iou_shown_by_the_explorer_is_the_one_of_the_tables(html, context, built_book):
    run, page = built_book[1], context.new_page()
    open_page(page, html / "book" / "explorer.html")
    scores = pd.read_csv(run.dir / "human_centric.csv").query("level == 'clip' & metric == 'iou'")
    shown = page.evaluate(
        "JSON.parse(document.querySelector('.vad-data').textContent).clips[0].label"
    )
    (clip_id,) = (name for name, label in clip_labels(run).items() if label == shown)
    expected = scores[scores["clip_id"] == clip_id].set_index("row")["value"]
    for key in ("ig", "lime", "occlusion_lp", "motion", "random"):
        page.locator("[name=map]").first.select_option(steps.rows(run)[key].label)
        page.wait_for_function(
            "best => Math.abs(document.querySelector('output').dataset.best - best) < 1e-9",
            arg=expected[key],
            timeout=5000,
        )
    assert page.locator("output").first.inner_text().startswith("Random map")
    page.close()
