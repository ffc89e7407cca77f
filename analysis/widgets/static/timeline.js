// A strip of a run's events, or several on one axis: four lanes (says, thinks, acts, gets), marks above.

const LANES = [
  ["says", ["system", "user", "message", "other"]],
  ["thinks", ["thinking"]],
  ["acts", ["tool_call"]],
  ["gets", ["tool_result", "error", "compaction"]],
];
const LANE_OF = Object.fromEntries(LANES.flatMap(([, kinds], lane) => kinds.map((kind) => [kind, lane])));
const GUTTER = 50;
const LANE = 13;
const MARKS = 15;
const BETWEEN = 30;
const TOP = 18;
const HEIGHT = MARKS + LANES.length * LANE + 8;
const READABLE = 7;
const WIDEST = 34;

const words = (kind) => kind.replace("_", " ");

export default {
  render({ model, el }) {
    const root = make("div", { class: "derail timeline" });
    el.append(root);
    const canvas = make("canvas", { "aria-hidden": "true" });
    const tip = make("div", { class: "tip", hidden: true });
    const strip = make("div", { class: "strip", role: "slider", tabindex: "0", "aria-orientation": "horizontal" }, canvas, tip);
    const overview = make("canvas", { class: "overview", "aria-hidden": "true" });
    const where = make("div", { class: "where" });
    const tools = make("div", { class: "tools", role: "toolbar", "aria-label": "move along the timeline" });
    const legend = make("div", { class: "legend" });
    const nothing = empty("");
    root.append(tools, where, strip, overview, legend, nothing);

    let scale = 0; // pixels per slot; 0: not chosen yet
    let offset = 0; // first slot on screen
    let colours = {};
    let hovered = null;
    let pending = 0;

    const strips = () => model.get("strips");
    const slots = () => Math.max(1, model.get("slots"));
    const width = () => Math.max(60, strip.clientWidth - GUTTER);
    const fit = () => width() / slots();
    const kindOf = (s, i) => model.get("kinds")[strips()[s].kind[i]];
    const toolOf = (s, i) => strips()[s].tools[strips()[s].tool[i]] ?? null;
    const last = (s) => strips()[s].kind.length - 1;

    function describe([s, i]) {
      const data = strips()[s];
      const step = data.step[i] === null ? "before the first call" : `step ${data.step[i]}`;
      const parts = [`event ${data.seq[i]} of ${data.total}`, step, words(kindOf(s, i)) + (toolOf(s, i) ? ` ${toolOf(s, i)}` : "")];
      if (data.marks[i]) parts.push(`perturbed: ${data.marks[i]}`);
      if (data.errors.includes(i)) parts.push("flagged as error");
      if (data.dropped[i]) parts.push(data.dropped[i]);
      return (strips().length > 1 ? [data.label, ...parts] : parts).join(" \u00b7 ");
    }

    function select(place, { focus = false } = {}) {
      tell(model, { selected: place });
      reveal(place);
      if (focus) strip.focus({ preventScroll: true });
    }

    function reveal([s, i]) {
      const slot = strips()[s].slot[i];
      const visibleSlots = width() / scale;
      if (slot < offset + 1) offset = slot - visibleSlots * 0.2;
      else if (slot > offset + visibleSlots - 2) offset = slot - visibleSlots * 0.8;
      clamp();
      schedule();
    }

    function clamp() {
      offset = Math.max(0, Math.min(offset, slots() - width() / scale));
    }

    function zoom(factor) {
      const chosen = model.get("selected");
      const centre = chosen ? strips()[chosen[0]].slot[chosen[1]] : offset + width() / scale / 2;
      scale = Math.max(fit(), Math.min(WIDEST, factor === 0 ? fit() : scale * factor));
      offset = centre - width() / scale / 2;
      clamp();
      schedule();
    }

    function nextWhere(is) {
      const [s, from] = model.get("selected") ?? [0, -1];
      const count = last(s) + 1;
      for (let ahead = 1; ahead <= count; ahead++) {
        const i = (from + ahead + count) % count;
        if (is(s, i)) return select([s, i]);
      }
    }

    const moves = {
      previous: () => { const [s, i] = model.get("selected") ?? [0, 1]; if (i > 0) select([s, i - 1]); },
      next: () => { const [s, i] = model.get("selected") ?? [0, -1]; if (i < last(s)) select([s, i + 1]); },
      first: () => select([model.get("selected")?.[0] ?? 0, 0]),
      last: () => { const s = model.get("selected")?.[0] ?? 0; select([s, last(s)]); },
      call: () => {
        const chosen = model.get("selected");
        const tool = chosen ? toolOf(...chosen) : null;
        nextWhere((s, i) => kindOf(s, i) === "tool_call" && (tool === null || toolOf(s, i) === tool));
      },
      error: () => { const [s] = model.get("selected") ?? [0]; const found = new Set(strips()[s].errors); nextWhere((_, i) => found.has(i)); },
      perturbed: () => nextWhere((s, i) => strips()[s].marks[i] !== undefined),
      match: () => { const [s] = model.get("selected") ?? [0]; const found = new Set(strips()[s].matches); nextWhere((_, i) => found.has(i)); },
      difference: () => {
        const at = model.get("difference");
        if (at === null) return;
        const [s] = model.get("selected") ?? [0];
        const i = strips()[s].slot.findIndex((slot) => slot >= at);
        select([s, i < 0 ? last(s) : i]);
      },
      other: (by) => {
        const [s, i] = model.get("selected") ?? [0, 0];
        const to = s + by;
        if (to < 0 || to >= strips().length) return;
        const slot = strips()[s].slot[i];
        let j = strips()[to].slot.findIndex((there) => there >= slot);
        if (j < 0) j = last(to);
        select([to, j]);
      },
    };

    function onKey(event) {
      if (!strips().length || event.ctrlKey || event.metaKey || event.altKey) return;
      const run = {
        ArrowLeft: moves.previous, ArrowRight: moves.next, Home: moves.first, End: moves.last,
        ArrowDown: () => moves.other(1), ArrowUp: () => moves.other(-1),
        t: moves.call, e: moves.error, p: moves.perturbed, m: moves.match, d: moves.difference,
        "+": () => zoom(1.6), "=": () => zoom(1.6), "-": () => zoom(1 / 1.6), "0": () => zoom(0),
      }[event.key];
      if (!run) return;
      event.preventDefault();
      event.stopPropagation(); // JupyterLab has meanings of its own for single letters
      run();
    }

    function buildTools() {
      const all = strips();
      tools.hidden = strip.hidden = legend.hidden = where.hidden = !all.length;
      overview.hidden = true; // until it is drawn
      nothing.hidden = Boolean(all.length);
      nothing.textContent = model.get("when_empty");
      strip.setAttribute("aria-label", visible(`timeline of ${all.map((s) => s.label).join(" and ") || "no run"}`));
      const any = (test) => all.some(test);
      const button = (text, key, run, enabled = true, name = text) => {
        const b = make("button", { type: "button", title: `${name} (${key})`, "aria-label": name, "aria-keyshortcuts": key, on: { click: run } },
          make("span", { text }), make("kbd", { text: key, "aria-hidden": "true" }));
        b.disabled = !enabled;
        return b;
      };
      tools.replaceChildren(
        button("\u2039", "\u2190", moves.previous, true, "previous event"),
        button("\u203a", "\u2192", moves.next, true, "next event"),
        button("next call of this tool", "t", moves.call, any((s) => s.tools.length > 0)),
        button("next error", "e", moves.error, any((s) => s.errors.length > 0)),
        button("next perturbed", "p", moves.perturbed, any((s) => Object.keys(s.marks).length > 0)),
        ...(any((s) => s.matches.length) ? [button("next match", "m", moves.match)] : []),
        ...(all.length > 1 ? [button("first difference", "d", moves.difference, model.get("difference") !== null)] : []),
        make("span", { class: "gap" }),
        button("\u2212", "-", () => zoom(1 / 1.6), true, "zoom out"),
        button("+", "+", () => zoom(1.6), true, "zoom in"),
        button("fit", "0", () => zoom(0), true, "show the whole run"),
      );
      const present = new Set(all.flatMap((s) => [...new Set(s.kind)].map((k) => model.get("kinds")[k])));
      const item = (text, glyph) => make("span", { class: "item" }, glyph, make("span", { text }));
      legend.replaceChildren(
        ...model.get("kinds").filter((kind) => present.has(kind)).map((kind) =>
          item(words(kind), make("i", { class: "swatch", style: { background: `var(--k-${kind})` } }))),
        ...(any((s) => Object.keys(s.marks).length) ? [item("perturbed response", make("i", { class: "glyph bad", text: "\u25bc" }))] : []),
        ...(any((s) => Object.keys(s.dropped).length) ? [item("thinking dropped from this call", make("i", { class: "glyph think", text: "\u25c7" }))] : []),
        ...(any((s) => s.matches.length) ? [item("text found", make("i", { class: "glyph", text: "\u2582" }))] : []),
      );
    }

    function readColours() {
      const style = getComputedStyle(root);
      const names = [...model.get("kinds").map((kind) => `--k-${kind}`), "--ink", "--muted", "--line", "--wash", "--paper", "--accent", "--bad"];
      colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(name).trim()]));
      colours.font = style.fontFamily;
    }

    function prepare(node, cssWidth, cssHeight) {
      const ratio = devicePixelRatio || 1;
      node.width = Math.round(cssWidth * ratio);
      node.height = Math.round(cssHeight * ratio);
      node.style.height = `${cssHeight}px`;
      const pen = node.getContext("2d");
      pen.scale(ratio, ratio);
      return pen;
    }

    const x = (slot) => GUTTER + (slot - offset) * scale;
    const topOf = (s) => TOP + s * (HEIGHT + BETWEEN);

    function paintStrip(pen, s) {
      const data = strips()[s];
      const top = topOf(s);
      const lanes = top + MARKS;
      const right = GUTTER + width();
      const kinds = model.get("kinds");
      const marked = new Set(data.errors);
      const matched = new Set(data.matches);
      pen.font = `600 11.5px ${colours.font}`;
      pen.fillStyle = colours["--ink"];
      pen.textAlign = "left";
      pen.textBaseline = "alphabetic";
      pen.fillText(visible(data.label), 0, top - 4, right);
      pen.font = `10.5px ${colours.font}`;
      pen.fillStyle = colours["--muted"];
      LANES.forEach(([name], lane) => pen.fillText(name, 0, lanes + lane * LANE + LANE - 3));
      pen.fillText("step", 0, lanes + LANES.length * LANE + 13);
      pen.save();
      pen.beginPath();
      pen.rect(GUTTER, top - 2, width(), HEIGHT + 18);
      pen.clip();
      const count = data.kind.length;
      let i = data.slot.findIndex((slot) => slot + 1 >= offset);
      if (i < 0) i = count;
      // Every other step is shaded, and numbered where there is room for it.
      let lastLabel = -Infinity;
      for (let from = i; from < count && x(data.slot[from]) < right; ) {
        let to = from;
        while (to < count && data.step[to] === data.step[from]) to++;
        const end = to < count ? data.slot[to] : data.slot[count - 1] + 1;
        const step = data.step[from];
        if (step !== null && step % 2 === 1) {
          pen.fillStyle = colours["--wash"];
          pen.fillRect(x(data.slot[from]), lanes - 2, (end - data.slot[from]) * scale, LANES.length * LANE + 4);
        }
        if (step !== null && x(data.slot[from]) - lastLabel > 26) {
          pen.fillStyle = colours["--muted"];
          pen.fillText(String(step), x(data.slot[from]) + 1, lanes + LANES.length * LANE + 13);
          lastLabel = x(data.slot[from]);
        }
        from = to;
      }
      const gap = scale > 5 ? 1 : 0;
      for (; i < count && x(data.slot[i]) < right; i++) {
        const kind = kinds[data.kind[i]];
        const left = x(data.slot[i]);
        const high = lanes + LANE_OF[kind] * LANE;
        const wide = Math.max(1, scale - gap);
        pen.fillStyle = colours[`--k-${kind}`];
        pen.fillRect(left, high + 1, wide, LANE - 2);
        if (marked.has(i)) {
          pen.fillStyle = colours["--k-error"];
          pen.fillRect(left, high + 1, wide, LANE - 2);
        }
        if (matched.has(i)) {
          pen.fillStyle = colours["--ink"];
          pen.fillRect(left, high + LANE - 3, wide, 3);
        }
      }
      const middle = scale / 2 - gap / 2;
      for (const at of Object.keys(data.marks)) {
        const centre = x(data.slot[at]) + middle;
        if (centre < GUTTER - 6 || centre > right + 6) continue;
        pen.fillStyle = colours["--bad"];
        pen.beginPath();
        pen.moveTo(centre - 5, top + 3);
        pen.lineTo(centre + 5, top + 3);
        pen.lineTo(centre, top + 11);
        pen.fill();
      }
      pen.strokeStyle = colours["--k-thinking"];
      pen.lineWidth = 1.5;
      for (const at of Object.keys(data.dropped)) {
        const centre = x(data.slot[at]) + middle;
        if (centre < GUTTER - 6 || centre > right + 6) continue;
        pen.beginPath();
        pen.moveTo(centre, top + 2.5);
        pen.lineTo(centre + 4, top + 7);
        pen.lineTo(centre, top + 11.5);
        pen.lineTo(centre - 4, top + 7);
        pen.closePath();
        pen.stroke();
      }
      const chosen = model.get("selected");
      if (chosen && chosen[0] === s) {
        const left = x(data.slot[chosen[1]]);
        const high = lanes + LANE_OF[kinds[data.kind[chosen[1]]]] * LANE;
        pen.strokeStyle = colours["--ink"];
        pen.lineWidth = 1;
        pen.globalAlpha = 0.35;
        pen.strokeRect(left - 0.5 + middle, lanes - 2, 0, LANES.length * LANE + 4);
        pen.globalAlpha = 1;
        pen.lineWidth = 2;
        pen.strokeRect(left - 2, high - 1, Math.max(3, scale - gap) + 4, LANE + 2);
      }
      pen.restore();
    }

    function paintDifference(pen) {
      const at = model.get("difference");
      if (at === null || strips().length < 2) return;
      const place = x(at) - 1;
      if (place < GUTTER - 4 || place > GUTTER + width() + 4) return;
      const bottom = topOf(strips().length - 1) + HEIGHT;
      pen.strokeStyle = pen.fillStyle = colours["--bad"];
      pen.lineWidth = 1.5;
      pen.setLineDash([4, 3]);
      pen.beginPath();
      pen.moveTo(place, TOP - 2);
      pen.lineTo(place, bottom);
      pen.stroke();
      pen.setLineDash([]);
      pen.font = `600 11px ${colours.font}`;
      const text = "first difference";
      pen.font = `600 11.5px ${colours.font}`;
      const label = pen.measureText(visible(strips()[1].label)).width;
      pen.font = `600 11px ${colours.font}`;
      const wide = pen.measureText(text).width;
      const left = place + wide + 8 < GUTTER + width() ? place + 5 : place - wide - 5;
      pen.fillText(text, Math.max(left, label + 14), topOf(1) - 4);
    }

    function paintOverview() {
      const isNeeded = scale > fit() * 1.01;
      overview.hidden = !isNeeded;
      if (!isNeeded) return;
      const each = 9;
      const pen = prepare(overview, strip.clientWidth, each * strips().length + 6);
      const wide = width();
      const kinds = model.get("kinds");
      strips().forEach((data, s) => {
        const strong = new Set([...data.errors, ...Object.keys(data.marks).map(Number)]);
        for (const isStrong of [false, true]) {
          for (let i = 0; i < data.kind.length; i++) {
            if (strong.has(i) !== isStrong) continue;
            pen.fillStyle = isStrong ? colours["--bad"] : colours[`--k-${kinds[data.kind[i]]}`];
            pen.fillRect(GUTTER + (data.slot[i] / slots()) * wide, 3 + s * each, Math.max(1, wide / slots()), each - 2);
          }
        }
      });
      pen.strokeStyle = colours["--ink"];
      pen.lineWidth = 1.5;
      pen.strokeRect(GUTTER + (offset / slots()) * wide, 1, (wide / scale / slots()) * wide, each * strips().length + 3);
    }

    function paint() {
      pending = 0;
      if (!strips().length || strip.clientWidth === 0) return;
      readColours();
      if (scale === 0) scale = fit() >= READABLE ? Math.min(fit(), WIDEST) : READABLE;
      scale = Math.max(scale, Math.min(fit(), WIDEST));
      clamp();
      const pen = prepare(canvas, strip.clientWidth, topOf(strips().length - 1) + HEIGHT + 14);
      pen.clearRect(0, 0, canvas.width, canvas.height);
      strips().forEach((_, s) => paintStrip(pen, s));
      paintDifference(pen);
      paintOverview();
      const chosen = model.get("selected");
      const said = chosen ? describe(chosen) : `${model.get("hint")}`;
      where.textContent = visible(said);
      strip.setAttribute("aria-valuemin", "0");
      strip.setAttribute("aria-valuemax", String(last(chosen?.[0] ?? 0)));
      strip.setAttribute("aria-valuenow", String(chosen?.[1] ?? 0));
      strip.setAttribute("aria-valuetext", visible(said));
    }

    const schedule = () => { if (!pending) pending = requestAnimationFrame(paint); };

    function placeAt(event) {
      const box = canvas.getBoundingClientRect();
      const s = Math.max(0, Math.min(strips().length - 1, Math.floor((event.clientY - box.top - TOP + 8) / (HEIGHT + BETWEEN))));
      const slot = offset + (event.clientX - box.left - GUTTER) / scale;
      const all = strips()[s].slot;
      let low = 0;
      let high = all.length - 1;
      while (low < high) {
        const centre = (low + high + 1) >> 1;
        if (all[centre] <= slot) low = centre;
        else high = centre - 1;
      }
      return slot < -1 || !all.length ? null : [s, low];
    }

    canvas.addEventListener("click", (event) => { const place = placeAt(event); if (place) select(place, { focus: true }); });
    canvas.addEventListener("pointermove", (event) => {
      hovered = strips().length ? placeAt(event) : null;
      tip.hidden = !hovered;
      if (!hovered) return;
      tip.textContent = visible(describe(hovered));
      const box = strip.getBoundingClientRect();
      const left = event.clientX - box.left;
      tip.style.left = `${left > box.width / 2 ? Math.max(0, left - 12 - tip.offsetWidth) : left + 12}px`;
      tip.style.top = `${event.clientY - box.top + 14}px`;
    });
    canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
    canvas.addEventListener("wheel", (event) => {
      const by = event.deltaX || (event.shiftKey ? event.deltaY : 0);
      if (!by || scale <= fit()) return;
      event.preventDefault();
      offset += by / scale;
      clamp();
      schedule();
    }, { passive: false });
    const jump = (event) => {
      const box = overview.getBoundingClientRect();
      offset = ((event.clientX - box.left - GUTTER) / width()) * slots() - width() / scale / 2;
      clamp();
      schedule();
    };
    overview.addEventListener("pointerdown", (event) => { overview.setPointerCapture(event.pointerId); jump(event); });
    overview.addEventListener("pointermove", (event) => { if (event.buttons) jump(event); });
    strip.addEventListener("keydown", onKey);
    tools.addEventListener("keydown", (event) => { if (event.key !== "Enter" && event.key !== " " && event.key !== "Tab") onKey(event); });

    const renew = () => { scale = 0; offset = 0; buildTools(); if (model.get("selected")) requestAnimationFrame(() => { paint(); reveal(model.get("selected")); }); schedule(); };
    const move = () => { const chosen = model.get("selected"); if (chosen && scale) reveal(chosen); else schedule(); };
    const unfollow = followTheme(root, schedule);
    renew();
    model.on("change:strips", renew);
    model.on("change:selected", move);
    model.on("change:when_empty", buildTools);
    const resized = new ResizeObserver(schedule);
    resized.observe(strip);
    return () => {
      unfollow();
      resized.disconnect();
      cancelAnimationFrame(pending);
      model.off("change:strips", renew);
      model.off("change:selected", move);
      model.off("change:when_empty", buildTools);
    };
  },
};
