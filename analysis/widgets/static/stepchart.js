// Lines over steps with bands, in panels one above the other; a range of steps can be brushed.

const LEFT = 46;
const RIGHT = 12;
const PANEL = 92;
const GAP = 38;
const BELOW = 24;
const DASHES = ["", "6 3", "2 3", "8 3 2 3", "1 2", "10 4"];

export default {
  render({ model, el }) {
    let drag = null;
    const build = (root) => {
      const panels = model.get("panels");
      const last = model.get("last");
      const head = heading(model.get("title"), model.get("note"));
      if (!panels.length) return [head, empty(model.get("when_empty"))];
      const wide = Math.max(280, (root.clientWidth || 640));
      const inner = wide - LEFT - RIGHT;
      const x = (step) => LEFT + ((step + 0.5) / (last + 1)) * inner;
      const stepAt = (clientX) => {
        const box = svg.getBoundingClientRect();
        return Math.max(0, Math.min(last, Math.floor(((clientX - box.left - LEFT) / inner) * (last + 1))));
      };
      const tall = panels.length * (PANEL + GAP) + BELOW;
      const svg = draw("svg", { width: wide, height: tall, viewBox: `0 0 ${wide} ${tall}`, "aria-hidden": "true" });
      const brushed = model.get("brushed");
      panels.forEach((panel, p) => {
        const top = p * (PANEL + GAP) + GAP - 10;
        const y = (value) => top + PANEL - (value / panel.top) * PANEL;
        svg.append(draw("text", { x: 0, y: top - 13, class: "panel", text: panel.title }));
        for (const tick of panel.ticks) {
          svg.append(draw("line", { x1: LEFT, x2: wide - RIGHT, y1: y(tick), y2: y(tick), class: "grid" }));
          svg.append(draw("text", { x: LEFT - 8, y: y(tick) + 4, class: "tick end", text: `${Math.round(1000 * tick) / 10} %` }));
        }
        panel.series.forEach((series, k) => {
          if (panel.bars) {
            const half = Math.min(9, (inner / (last + 1)) * 0.35);
            series.steps.forEach((s, i) => {
              const bar = draw("rect", { x: x(s) - half, width: 2 * half, y: y(series.values[i]), height: y(0) - y(series.values[i]), class: "bar" });
              bar.append(draw("title", { text: `step ${s}: ${(100 * series.values[i]).toFixed(1)} % of ${series.counts[i].toLocaleString("en")} ${panel.unit}` }));
              svg.append(bar);
            });
            return;
          }
          const colour = `var(--s${k % 6})`;
          if (series.low) {
            const there = series.steps.map((step, i) => [step, series.low[i], series.high[i]]).filter(([, low]) => low !== null);
            const path = [...there.map(([s, , high]) => `${x(s)},${y(high)}`), ...there.reverse().map(([s, low]) => `${x(s)},${y(low)}`)];
            svg.append(draw("polygon", { points: path.join(" "), fill: colour, class: "band" }));
          }
          svg.append(draw("polyline", { points: series.steps.map((s, i) => `${x(s)},${y(series.values[i])}`).join(" "), stroke: colour, "stroke-dasharray": DASHES[k % 6], class: "line" }));
          series.steps.forEach((s, i) => {
            const dot = draw("circle", { cx: x(s), cy: y(series.values[i]), r: 2.6, fill: colour });
            dot.append(draw("title", { text: `${series.name}\nstep ${s}: ${(100 * series.values[i]).toFixed(1)} %${series.low && series.low[i] !== null ? ` [${(100 * series.low[i]).toFixed(1)}, ${(100 * series.high[i]).toFixed(1)}]` : ""}\n${series.counts[i].toLocaleString("en")} ${panel.unit}` }));
            svg.append(dot);
          });
        });
      });
      const every = Math.max(1, Math.ceil((last + 1) / Math.floor(inner / 34)));
      for (let step = 0; step <= last; step += every) svg.append(draw("text", { x: x(step), y: tall - 10, class: "tick middle", text: String(step) }));
      svg.append(draw("text", { x: LEFT - 8, y: tall - 10, class: "tick end", text: "step" }));
      if (brushed) {
        const half = inner / (last + 1) / 2;
        svg.append(draw("rect", { x: x(brushed[0]) - half, width: x(brushed[1]) - x(brushed[0]) + 2 * half, y: GAP - 14, height: tall - BELOW - GAP + 12, class: "brush" }));
      }
      const said = brushed ? (brushed[0] === brushed[1] ? `step ${brushed[0]}` : `steps ${brushed[0]} to ${brushed[1]}`) : "no steps brushed";
      const slider = make("div", {
        class: "plot", role: "slider", tabindex: "0", "data-focus": "plot", "aria-label": `${model.get("title")}: brush steps`, "aria-valuemin": "0", "aria-valuemax": String(last),
        "aria-valuenow": String(brushed ? brushed[0] : 0), "aria-valuetext": said,
        on: {
          pointerdown: (event) => {
            drag = [stepAt(event.clientX), stepAt(event.clientX)];
            slider.setPointerCapture(event.pointerId);
          },
          pointermove: (event) => {
            if (!drag) return;
            drag[1] = stepAt(event.clientX);
            const [low, high] = [Math.min(...drag), Math.max(...drag)];
            const half = inner / (last + 1) / 2;
            const rect = svg.querySelector(".brush") ?? svg.appendChild(draw("rect", { y: GAP - 14, height: tall - BELOW - GAP + 12, class: "brush" }));
            rect.setAttribute("x", x(low) - half);
            rect.setAttribute("width", x(high) - x(low) + 2 * half);
          },
          pointerup: () => {
            if (!drag) return;
            const range = [Math.min(...drag), Math.max(...drag)];
            drag = null;
            tell(model, { brushed: range });
          },
          keydown: (event) => {
            const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
            if (event.key === "Escape") { event.stopPropagation(); tell(model, { brushed: null }); return; }
            if (!by) return;
            event.preventDefault();
            event.stopPropagation();
            const now = model.get("brushed");
            let next = now ? [now[0] + by, now[1] + by] : [0, 0];
            if (now && event.shiftKey) next = [now[0], Math.max(now[0], now[1] + by)];
            if (next[0] < 0 || next[1] > last) return;
            tell(model, { brushed: next });
          },
        },
      }, svg);
      const legend = make("div", { class: "legend" }, ...(panels[0].bars ? [] : panels[0].series).map((series, k) => make("span", { class: "item" },
        draw("svg", { width: 26, height: 8, "aria-hidden": "true" }, draw("line", { x1: 1, x2: 25, y1: 4, y2: 4, stroke: `var(--s${k % 6})`, "stroke-width": 2.5, "stroke-dasharray": DASHES[k % 6] })),
        make("span", { text: series.name }))));
      return [head, legend, slider, make("div", { class: "foot" }, make("span", { class: "muted", text: `${said}. ${model.get("caption")}` }))];
    };
    const stop = live(model, el, ["panels", "brushed", "title", "note", "when_empty"], build, "stepchart");
    const root = el.querySelector(".derail.stepchart");
    let seen = root.clientWidth;
    const resized = new ResizeObserver(() => {
      if (Math.abs(root.clientWidth - seen) < 2) return;
      seen = root.clientWidth;
      root.replaceChildren(...build(root).filter(Boolean));
    });
    resized.observe(root);
    return () => { resized.disconnect(); stop(); };
  },
};
