// A table of effects with a forest plot in its last column; a row can be picked.

export default {
  render({ model, el }) {
    const build = () => {
      const rows = model.get("rows");
      const head = heading(model.get("title"), model.get("note"));
      if (!rows.length) return [head, empty(model.get("when_empty"))];
      const reach = model.get("reach");
      const picked = model.get("picked");
      const x = (value) => 50 + (48 * value) / reach;
      const lines = [];
      const minor = (j) => (model.get("minor").includes(j) ? "minor" : ""); // left out where there is little room
      rows.forEach((row, i) => {
        const plot = draw("svg", { class: "forest", viewBox: "0 0 100 26", preserveAspectRatio: "none", "aria-hidden": "true" },
          draw("line", { x1: 50, x2: 50, y1: 0, y2: 26, class: "zero", "vector-effect": "non-scaling-stroke" }));
        if (row.low !== null) plot.append(draw("line", { x1: x(row.low), x2: x(row.high), y1: 13, y2: 13, class: `bar ${row.reading}`, "vector-effect": "non-scaling-stroke" }));
        const point = row.estimate === null ? null : make("i", { class: `point ${row.reading}`, style: { left: `${x(row.estimate)}%` } });
        const line = make("tr", {
          "data-focus": `row${i}`, class: i === picked ? "picked" : "", "aria-selected": String(i === picked),
          "aria-label": row.said,
          on: {
            click: () => tell(model, { picked: i }),
            keydown: (event) => {
              if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.stopPropagation(); tell(model, { picked: i }); }
              else roving(event, lines, i, 1);
            },
          },
        }, make("th", { scope: "row", title: row.effect, text: row.effect }), ...row.cells.map((cell, j) => make("td", { class: `num ${minor(j)}`, text: cell })),
        make("td", { class: "plot", title: row.said }, row.refused ? make("span", { class: "muted", text: row.refused }) : make("div", { class: "lane" }, plot, point)));
        line.tabIndex = i === (picked ?? 0) ? 0 : -1;
        lines.push(line);
      });
      const axis = make("div", { class: "axis num" }, ...[-reach, 0, reach].map((value) => make("span", { style: { left: `${x(value)}%` }, text: model.get("points") ? `${value > 0 ? "+" : ""}${Math.round(100 * value)}` : `${value > 0 ? "+" : ""}${Number(value.toPrecision(2))}` })));
      return [head, make("div", { class: "scroll" }, make("table", { role: "grid", "aria-label": model.get("title") },
        make("thead", {}, make("tr", {}, make("th", { scope: "col", text: "effect" }), ...model.get("columns").map((name, j) => make("th", { scope: "col", class: `num ${minor(j)}`, text: name })), make("th", { scope: "col", class: "plot" }, axis))),
        make("tbody", {}, ...lines))), make("p", { class: "muted", text: model.get("caption") })];
    };
    return live(model, el, ["rows", "picked", "title", "note", "when_empty", "caption"], build, "effects");
  },
};
