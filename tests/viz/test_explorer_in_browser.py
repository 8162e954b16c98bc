"""The explorer of the book's pages in a real browser, on clips made by hand."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from vad_helpers.metrics import human_centric
from vad_helpers.viz import explorer
from vad_helpers.viz.heatmaps import ShownClip

SHAPE = (6, 12, 16)
N = 25
_, STEPS = explorer.fit_thresholds(N)


def make_clip(label, names, *, seed, marked=True):
    rng = np.random.default_rng(seed)
    values, move = rng.standard_normal((2, *SHAPE)).astype(np.float32)
    maps = {"IG": values, "Heavy tails": values**9, "Steps": np.round(2 * values) / 10}
    maps |= {"Zeros": -np.abs(values), "Move": np.abs(move)}
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:, 3:8, 4:9] = marked
    mask[4, 3:9, 4:12] = marked  # the largest
    shown = {"frames": rng.random(SHAPE), "mask": mask, "p_clip": 0.75, "p_baseline": 0.5}
    return ShownClip(label=f"Clip {label}", maps={k: maps[k] for k in names or maps}, **shown)


FIRST, SECOND = make_clip("a", (), seed=1), make_clip("b", ("Heavy tails", "Steps"), seed=2)
CLIPS = [FIRST, SECOND, make_clip("c", (), seed=3, marked=False)]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    html = explorer.fragment(CLIPS, n_thresholds=N, second="Move")
    path = tmp_path_factory.mktemp("page") / "explorer.html"
    text = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>t</title><body>{html}'
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def page(request, chromium, file):
    options = getattr(request, "param", {})
    context = chromium.new_context(viewport={"width": 900, "height": 900}, **options)
    context.set_offline(True)
    page = context.new_page()
    noise = []
    page.on("console", lambda message: noise.append(message.text))
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_selector("[data-state=ready]")
    yield page
    context.close()
    assert noise == []


def choose(page, *, clip=None, maps=(), threshold=None):
    if clip is not None:
        page.select_option("[name=clip]", label=f"Clip {clip}")
    for menu, name in zip(page.locator("[name=map]").all(), maps, strict=False):
        menu.select_option(name)
    if threshold is not None:
        page.locator("[name=threshold]").fill(str(threshold))


def said(page, words):
    """Wait until a readout says these words, and give its value."""
    output = page.locator("output", has_text=words).first
    output.wait_for()
    return float(output.get_attribute("data-iou"))


def frame_of(page):
    return int(page.get_attribute(".vad-explorer", "data-frame"))


def pixels(page, i=0):
    """What a panel's canvas holds, as a PNG."""
    url = page.locator(".vad-panel canvas").nth(i).evaluate("canvas => canvas.toDataURL()")
    return base64.b64decode(url.partition(",")[2])


def picture(page):
    """The first panel's picture as (H, W, 3), a pixel from the middle of each of the frame's."""
    values = np.asarray(Image.open(io.BytesIO(pixels(page))).convert("RGB"), dtype=int)
    scale = len(values) // SHAPE[1]
    return values[scale // 2 :: scale, scale // 2 :: scale]


@pytest.mark.parametrize("name", ["IG", "Heavy tails", "Steps"])
def test_the_iou_shown_is_that_of_the_metrics(page, name):
    expected = human_centric.iou_curve(FIRST.maps[name], FIRST.mask, n_thresholds=N)
    for i in (0, 1, 7, 25):
        choose(page, maps=[name], threshold=i)
        words = f"{name}: IoU {expected[i]:.3f} at a threshold of {i / N:.2f}"
        assert said(page, words) == pytest.approx(expected[i], abs=1e-12)
        best = float(page.locator("output").first.get_attribute("data-best"))
        assert best == pytest.approx(expected.max(), abs=1e-12)


def test_the_picture_is_the_frame_under_the_colours_of_the_levels(page):
    with_outline = pixels(page)
    page.uncheck("[name=outline]")
    assert pixels(page) != with_outline
    page.locator("[name=opacity]").fill("100")
    choose(page, maps=["IG"], threshold=5)
    levels = explorer.to_levels(FIRST.maps["IG"], steps=STEPS)[4]
    found, shown = picture(page), levels > 5 * STEPS / N
    colours = explorer.palette(STEPS)[levels[shown].astype(int) - 1]
    np.testing.assert_array_equal(found[shown], colours)
    grey = 255 * FIRST.frames[4]
    assert np.ptp(found[~shown], axis=1).max() <= 2  # JPEG's frames stay grey
    assert np.corrcoef(found[~shown][:, 0], grey[~shown])[0, 1] > 0.9
    page.locator("[name=opacity]").fill("0")
    assert np.ptp(picture(page), axis=2).max() <= 2
    # What is said of the frame uses the maximum of the clip.
    selected = FIRST.maps["IG"] >= 0.2 * FIRST.maps["IG"].max()
    expected = (selected & FIRST.mask)[4].sum() / (selected | FIRST.mask)[4].sum()
    text = page.locator(".vad-more").first.inner_text()
    assert f"This frame alone: IoU {expected:.3f}" in text
    assert f"Selected: {100 * selected.mean():.1f} %" in text


def test_two_maps_side_by_side_or_one_alone(page):
    assert page.locator("[name=map]").nth(1).input_value() == "Move"
    assert pixels(page, 0) != pixels(page, 1)
    choose(page, maps=["IG", "IG"])
    page.wait_for_function("document.querySelectorAll('output')[1].textContent.startsWith('IG')")
    assert pixels(page, 0) == pixels(page, 1)
    page.uncheck("[name=compare]")
    assert [panel.is_visible() for panel in page.locator(".vad-panel").all()] == [True, False]


def test_the_arrow_keys_scrub_stop_at_the_ends_and_keep_their_meaning_inside_a_control(page):
    page.focus(".vad-stage")
    before = pixels(page)
    page.keyboard.press("ArrowRight")
    assert frame_of(page) == 5 and pixels(page) != before
    for keys, expected in ((["ArrowRight"], 5), (["Home", "ArrowLeft"], 0), (["End"], 5)):
        for key in keys:
            page.keyboard.press(key)
        assert frame_of(page) == expected
    assert page.get_attribute("[name=frame]", "aria-valuetext") == "6 of 6"
    page.focus("[name=threshold]")
    page.keyboard.press("ArrowLeft")
    assert frame_of(page) == 5 and page.input_value("[name=threshold]") == "1"


def test_it_starts_at_the_largest_anomaly_and_tab_reaches_all_controls(page):
    for control in "clip threshold opacity outline compare play frame stage map map".split():
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.name ?? 'stage'") == control
    page.wait_for_timeout(400)  # nothing plays by itself
    assert frame_of(page) == 4 and page.input_value("[name=frame]") == "4"


RECORD_FRAMES = """() => {
    const explorer = document.querySelector(".vad-explorer");
    window.framesShown = [];
    new MutationObserver(() => window.framesShown.push(Number(explorer.dataset.frame)))
        .observe(explorer, {attributes: true, attributeFilter: ["data-frame"]});
}"""


def test_space_plays_round_and_pauses(page):
    page.evaluate(RECORD_FRAMES)  # a busy machine polls too seldom to see every frame
    page.focus(".vad-stage")
    page.keyboard.press("Space")
    assert page.inner_text("[name=play]") == "Pause"
    page.wait_for_function("window.framesShown.length >= 3")
    assert page.evaluate("window.framesShown.slice(0, 3)") == [5, 0, 1]
    page.keyboard.press("Space")
    assert page.inner_text("[name=play]") == "Play"
    stopped = frame_of(page)
    page.wait_for_timeout(400)
    assert frame_of(page) == stopped


@pytest.mark.parametrize("page", [{"reduced_motion": "reduce"}], indirect=True)
def test_with_reduced_motion_it_plays_slowly_and_once(page):
    page.locator("[name=frame]").fill("3")
    page.click("[name=play]")
    assert frame_of(page) == 3
    page.wait_for_selector("[data-frame='5']", timeout=5000)
    assert page.inner_text("[name=play]") == "Play"
    page.click("[name=play]")  # from the end, it starts anew
    assert frame_of(page) == 0


def test_a_clip_offers_its_own_maps_and_keeps_the_choice_where_it_can(page):
    choose(page, maps=["Steps", "Move"])
    choose(page, clip="b")
    page.wait_for_selector("canvas[aria-label^='Frame 5 of Clip b']")
    menus = page.locator("[name=map]").all()
    assert [menu.input_value() for menu in menus] == ["Steps", "Steps"]
    assert menus[0].locator("option").all_inner_texts() == ["Heavy tails", "Steps"]
    expected = human_centric.iou_curve(SECOND.maps["Steps"], SECOND.mask, n_thresholds=N)
    assert said(page, "Steps: IoU") == pytest.approx(expected[2], abs=1e-12)
    # A map without a positive voxel and a clip without a mask are told apart.
    choose(page, clip="a", maps=["Zeros"])
    said(page, "Zeros: IoU 0.000")
    assert "no positive voxel" in page.locator(".vad-more").first.inner_text()
    choose(page, clip="c", maps=["IG"])
    page.locator("output", has_text="IG: IoU undefined").first.wait_for()


def test_screen_readers_are_told_the_iou_but_not_every_frame(page):
    assert page.locator("output").first.get_attribute("aria-live") == "polite"
    page.evaluate(
        "window.told = 0; new MutationObserver(() => window.told++)"
        ".observe(document.querySelector('output'), {childList: true, characterData: true})"
    )
    page.locator("[name=frame]").fill("2")
    assert page.evaluate("window.told") == 0
    choose(page, threshold=9)
    page.wait_for_function("window.told > 0")
    label = page.locator(".vad-panel canvas").first.get_attribute("aria-label")
    assert label == "Frame 3 of Clip a, and over it the map of IG"


@pytest.mark.parametrize("java_script", [True, False])
def test_the_contact_sheet_stands_in_where_the_script_cannot_run(chromium, file, java_script):
    context = chromium.new_context(java_script_enabled=java_script)
    page = context.new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(file.as_uri())
    if java_script:
        page.wait_for_selector("[data-state=failed]")
        assert "DecompressionStream" in page.inner_text("[role=alert]")
    sheet = page.locator(".vad-contact img")
    assert sheet.is_visible() and sheet.bounding_box()["height"] > 200
    assert not page.locator(".vad-live").is_visible()
    context.close()
