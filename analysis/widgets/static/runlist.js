// Runs, a row each; one can be picked. Only the rows that are shown have been sent.

export default {
  render({ model, el }) {
    const build = () => {
      const rows = model.get("rows");
      const columns = model.get("columns");
      const picked = model.get("picked");
      const head = heading(model.get("title"), model.get("note"));
      if (!rows.length) return [head, empty(model.get("when_empty"))];
      const lines = [];
      rows.forEach((row, i) => {
        const line = make("tr", {
          "data-focus": row.id, "aria-selected": String(row.id === picked), class: row.id === picked ? "picked" : "",
          on: {
            click: () => tell(model, { picked: row.id }),
            keydown: (event) => {
              if (event.key === "Enter" || event.key === " ") {
                event.preventDefault();
                event.stopPropagation();
                tell(model, { picked: row.id });
              } else roving(event, lines, i, 1);
            },
          },
        }, ...row.cells.map((value, j) => {
          if (columns[j].kind === "outcome") {
            return make("td", {}, make("span", { class: `outcome ${value === "success" ? "good" : value === "unknown" ? "" : "bad"}` },
              make("i", { "aria-hidden": "true", text: value === "success" ? "\u2713" : value === "unknown" ? "?" : "\u2717" }), make("span", { text: value })));
          }
          return make("td", { class: columns[j].kind === "number" ? "num" : "", title: value ?? "", text: value ?? "\u2013" });
        }));
        line.tabIndex = row.id === picked || (i === 0 && !rows.some((r) => r.id === picked)) ? 0 : -1;
        lines.push(line);
      });
      const table = make("table", { role: "grid", "aria-label": model.get("title") },
        make("thead", {}, make("tr", {}, ...columns.map((c) => make("th", { scope: "col", class: c.kind === "number" ? "num" : "", title: c.tip, text: c.label })))),
        make("tbody", {}, ...lines));
      const hidden = model.get("hidden");
      return [head, make("div", { class: "scroll" }, table), hidden > 0 && make("button", {
        type: "button", class: "link", "data-focus": "more", text: model.get("more"),
        on: { click: () => model.send({ click: "more" }) },
      })];
    };
    return live(model, el, ["rows", "columns", "picked", "title", "note", "hidden", "when_empty", "more"], build, "runlist");
  },
};
