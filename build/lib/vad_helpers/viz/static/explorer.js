/* A viewer of clips and maps that needs no server: all it shows is in the page.
 *
 * A map is one byte a voxel, its level: 0 where E+ is 0, else 1 + floor(steps * E+ / max), with the
 * maximum over the clip. `steps` is a multiple of the number n of thresholds, so a voxel with
 * E+ >= i/n max is one whose level is above i * steps/n: the IoU shown is that of the map itself.
 */
(() => {
  "use strict";

  const USUAL = 125, CALM = 500; // milliseconds a frame

  /** Bytes that were deflated and written in base64. */
  async function unpack(text) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  /** Decode an image whose parts lie below each other, one a frame. */
  async function loadImage(source) {
    const image = new Image();
    image.src = source;
    await image.decode();
    return image;
  }

  /** How many voxels of a range are on each level, in all and in the mask. */
  function histogram(levels, mask, from, to) {
    const all = new Array(256).fill(0), marked = new Array(256).fill(0);
    for (let i = from; i < to; i++) {
      all[levels[i]] += 1;
      marked[levels[i]] += mask[i];
    }
    return {all, marked};
  }

  const sum = (numbers) => numbers.reduce((total, one) => total + one, 0);

  /** Share of voxels above a level, and their IoU with the mask: NaN where nothing is marked. */
  function above({all, marked}, cut) {
    const first = Math.floor(cut) + 1;
    const selected = sum(all.slice(first)), hits = sum(marked.slice(first)), truth = sum(marked);
    return {
      share: selected / sum(all),
      iou: truth ? hits / (selected + truth - hits) : NaN,
    };
  }

  /** Strokes along the borders of a mask's pixels, in units of pixels. */
  function borders(mask, offset, height, width) {
    const inside = (y, x) =>
      y >= 0 && x >= 0 && y < height && x < width && mask[offset + y * width + x] === 1;
    const strokes = [];
    for (let y = 0; y <= height; y++) {
      for (let x = 0; x <= width; x++) {
        if (inside(y, x) !== inside(y - 1, x)) strokes.push([x, y, x + 1, y]);
        if (inside(y, x) !== inside(y, x - 1)) strokes.push([x, y, x, y + 1]);
      }
    }
    return strokes;
  }

  const spell = (value) => Number.isNaN(value) ? "undefined" : value.toFixed(3);
  const percent = (share) => (100 * share).toFixed(share < 0.1 ? 2 : 1) + " %";

  function make(tag, properties = {}, children = []) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  /** One picture: which map it shows, and what is said of it. */
  class Panel {
    constructor(title, data, onChange) {
      this.data = data;
      this.select = make("select", {name: "map", onchange: onChange});
      this.canvas = make("canvas");
      this.canvas.setAttribute("role", "img");
      this.output = make("output");
      this.output.setAttribute("aria-live", "polite");
      this.more = make("p", {className: "vad-more"});
      const label = make("label", {}, [title + " ", this.select]);
      this.element = make("div", {className: "vad-panel"},
        [label, this.canvas, this.output, this.more]);
      this.scratch = make("canvas", {width: data.width, height: data.height});
      const scale = Math.max(1, Math.ceil(480 / data.width));
      this.canvas.width = scale * data.width;
      this.canvas.height = scale * data.height;
    }

    /** Offer a clip's maps; keep the one that was chosen, if the clip has it. */
    offer(clip, otherwise) {
      const wanted = this.select.value || otherwise;
      const options = Object.keys(clip.maps).map(
        (key) => make("option", {value: key, textContent: key}));
      this.select.replaceChildren(...options);
      this.select.value = wanted in clip.maps ? wanted : otherwise;
    }

    draw(view) {
      const {data, canvas} = this;
      const context = canvas.getContext("2d");
      const {width, height} = data;
      context.imageSmoothingEnabled = false;
      context.globalAlpha = 1;
      context.drawImage(view.image, 0, view.frame * height, width, height,
        0, 0, canvas.width, canvas.height);
      this.scratch.getContext("2d").putImageData(this.colours(view), 0, 0);
      context.globalAlpha = view.opacity;
      context.drawImage(this.scratch, 0, 0, canvas.width, canvas.height);
      context.globalAlpha = 1;
      if (view.outline) this.outline(context, view);
    }

    colours(view) {
      const {paint, width, height} = this.data;
      const pixels = new ImageData(width, height);
      const words = new Uint32Array(pixels.data.buffer);
      const offset = view.frame * width * height;
      for (let i = 0; i < words.length; i++) {
        const level = this.levels[offset + i];
        if (level > view.cut) words[i] = paint[level - 1];
      }
      return pixels;
    }

    outline(context, view) {
      const {width, height} = this.data;
      const scale = this.canvas.width / width;
      const strokes = borders(view.mask, view.frame * width * height, height, width);
      context.lineCap = "square";
      for (const [colour, thickness] of [["#000", 3], [this.data.contour, 1.5]]) {
        context.strokeStyle = colour;
        context.lineWidth = thickness;
        context.beginPath();
        for (const [x0, y0, x1, y1] of strokes) {
          context.moveTo(scale * x0, scale * y0);
          context.lineTo(scale * x1, scale * y1);
        }
        context.stroke();
      }
    }

    /** Take the levels of another map, and what is needed to know its IoU at any threshold. */
    take(levels, mask) {
      const {n_thresholds: n, steps} = this.data;
      this.levels = levels;
      this.counts = histogram(levels, mask, 0, levels.length);
      const curve = Array.from({length: n + 1}, (_, i) => above(this.counts, i * steps / n).iou);
      const best = curve.reduce((found, value, i) => value >= curve[found] ? i : found, 0);
      this.best = {tau: (best / n).toFixed(2), iou: curve[best]};
    }

    describe(view) {
      const {width, height} = this.data;
      const start = view.frame * width * height;
      const name = this.select.value;
      const clip = above(this.counts, view.cut);
      const frame = above(
        histogram(this.levels, view.mask, start, start + width * height), view.cut);
      const text = `${name}: IoU ${spell(clip.iou)} at a threshold of ${view.tau} (whole clip)`;
      // Said again only when it changes: screen readers read it out.
      if (this.output.textContent !== text) this.output.textContent = text;
      Object.assign(this.output.dataset, {iou: clip.iou, best: this.best.iou});
      this.more.textContent = this.counts.all[0] === this.levels.length
        ? "This map has no positive voxel: there is nothing to show."
        : `Best over all thresholds: ${spell(this.best.iou)}, at ${this.best.tau}. Selected: ` +
          `${percent(clip.share)} of the voxels. This frame alone: IoU ${spell(frame.iou)}.`;
      this.canvas.setAttribute("aria-label",
        `Frame ${view.frame + 1} of ${view.clip.label}, and over it the map of ${name}`);
    }
  }

  class Explorer {
    constructor(root) {
      this.root = root;
      this.data = JSON.parse(root.querySelector(".vad-data").textContent);
      const bytes = new Uint8Array(this.data.palette.flatMap((colour) => [...colour, 255]));
      this.data.paint = new Uint32Array(bytes.buffer);
      this.decoded = new Map();
      this.frame = 0;
      this.timer = null;
      this.controls = {};
      for (const name of ["clip", "threshold", "opacity", "outline", "compare", "frame", "play"]) {
        this.controls[name] = root.querySelector(`[name=${name}]`);
      }
      this.panels = ["First map", "Second map"].map(
        (title) => new Panel(title, this.data, () => this.refresh()));
      root.querySelector(".vad-panels").append(...this.panels.map((panel) => panel.element));
      this.prepare();
    }

    prepare() {
      const {clip, threshold, opacity, outline, compare, frame, play} = this.controls;
      clip.append(...this.data.clips.map(
        (one, i) => make("option", {value: i, textContent: one.label})));
      threshold.max = this.data.n_thresholds;
      threshold.value = this.data.first_threshold;
      frame.max = this.data.n_frames - 1;
      clip.onchange = () => { this.offer(); this.refresh(); };
      for (const input of [threshold, opacity]) input.oninput = () => this.refresh();
      for (const box of [outline, compare]) box.onchange = () => this.refresh();
      frame.oninput = () => this.go(Number(frame.value));
      play.onclick = () => this.toggle();
      this.root.addEventListener("keydown", (event) => this.onKey(event));
      this.drawBar();
      this.offer();
    }

    drawBar() {
      const canvas = this.root.querySelector(".vad-bar canvas");
      const {paint} = this.data;
      canvas.width = paint.length;
      const pixels = new ImageData(paint.length, 1);
      new Uint32Array(pixels.data.buffer).set(paint);
      canvas.getContext("2d").putImageData(pixels, 0, 0);
    }

    get clip() { return this.data.clips[this.controls.clip.value]; }

    /** Offer what the clip has, and go to the frame where the anomaly is largest. */
    offer() {
      this.frame = this.clip.first_frame;
      const keys = Object.keys(this.clip.maps);
      const second = keys.includes(this.data.second) ? this.data.second : keys[keys.length - 1];
      this.panels[0].offer(this.clip, keys[0]);
      this.panels[1].offer(this.clip, second);
    }

    /** Decode once what is shown more than once. */
    once(name, decode) {
      if (!this.decoded.has(name)) this.decoded.set(name, decode());
      return this.decoded.get(name);
    }

    async refresh() {
      const ticket = this.ticket = {};
      const {clip} = this;
      const [image, bits] = await Promise.all([
        this.once(`${clip.label} frames`, () => loadImage(clip.frames)),
        this.once(`${clip.label} mask`, () => unpack(clip.mask)),
      ]);
      const levels = await Promise.all(this.panels.map(({select}) => this.once(
        `${clip.label} map ${select.value}`, () => unpack(clip.maps[select.value]))));
      if (ticket !== this.ticket) return; // another choice was made meanwhile
      this.panels.forEach((panel, i) => {
        if (panel.levels !== levels[i]) panel.take(levels[i], bits);
      });
      this.shown = {clip, image, mask: bits};
      this.draw();
    }

    draw() {
      if (!this.shown) return;
      const {threshold, opacity, outline, compare, frame} = this.controls;
      const {n_thresholds: n, n_frames: length, steps} = this.data;
      const tau = (threshold.value / n).toFixed(2);
      const view = {
        ...this.shown,
        frame: this.frame,
        tau,
        cut: threshold.value * steps / n,
        opacity: opacity.value / 100,
        outline: outline.checked,
      };
      this.say("threshold", `${tau} of the maximum`, threshold);
      this.say("opacity", `${opacity.value} %`, opacity);
      this.say("frame", `${this.frame + 1} of ${length}`, frame);
      frame.value = this.frame;
      this.panels[1].element.hidden = !compare.checked;
      for (const panel of this.panels) {
        panel.draw(view);
        panel.describe(view);
      }
      const {p_clip, p_baseline} = view.clip;
      this.root.querySelector(".vad-facts").textContent =
        `The network's probability of “anomalous”: ${spell(p_clip)} for this clip, ` +
        `${spell(p_baseline)} for its baseline. Where the two are nearly equal there is little to explain.`;
      this.root.dataset.frame = this.frame;
    }

    say(name, text, input) {
      this.root.querySelector(`[data-of=${name}]`).textContent = text;
      input.setAttribute("aria-valuetext", text);
    }

    go(frame) {
      this.frame = Math.max(0, Math.min(this.data.n_frames - 1, frame));
      this.draw();
    }

    get playing() { return this.timer !== null; }

    toggle() {
      if (this.playing) {
        clearInterval(this.timer);
        this.timer = null;
      } else {
        const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
        if (this.frame === this.data.n_frames - 1) this.go(0);
        this.timer = setInterval(() => this.advance(calm), calm ? CALM : USUAL);
      }
      this.controls.play.textContent = this.playing ? "Pause" : "Play";
    }

    /** Play round and round; once only for those who prefer little motion. */
    advance(calm) {
      const last = this.frame === this.data.n_frames - 1;
      this.go(last ? 0 : this.frame + 1);
      if (calm && this.frame === this.data.n_frames - 1) this.toggle();
    }

    onKey(event) {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const moves = {ArrowLeft: this.frame - 1, ArrowRight: this.frame + 1,
        Home: 0, End: this.data.n_frames - 1};
      // Sliders and menus have these keys for themselves, buttons and boxes the space bar.
      if (event.key in moves && !event.target.matches("select, input[type=range]")) {
        this.go(moves[event.key]);
      } else if (event.key === " " && !event.target.matches("select, button, [type=checkbox]")) {
        this.toggle();
      } else {
        return;
      }
      event.preventDefault();
      event.stopPropagation(); // the page may turn with the arrow keys
    }
  }

  async function start(root) {
    try {
      const explorer = new Explorer(root);
      await explorer.refresh();
      root.querySelector(".vad-live").hidden = false;
      root.querySelector(".vad-contact").hidden = true;
      root.dataset.state = "ready";
    } catch (error) {
      const note = root.querySelector(".vad-error");
      note.textContent = `The explorer cannot run in this browser (${error.message}). ` +
        "The contact sheet stands in for it.";
      note.hidden = false;
      root.dataset.state = "failed";
    }
  }

  document.querySelectorAll(".vad-explorer[data-state=static]").forEach(start);
})();
