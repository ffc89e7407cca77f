// A table of coloured cells; one can be picked by mouse or keyboard.

function cellColour(share) {
  const strength = Math.round(100 * Math.max(0, Math.min(1, share)));
  return `color-mix(in oklab, var(--heat-high) ${strength}%, var(--heat-low))`;
}

// A name may break after its underscores, and only there if that is enough.
function breakable(name) {
  const parts = visible(name).split(/(?<=[_.:/-])/);
  return parts.flatMap((part, i) => (i ? [document.createElement("wbr"), part] : [part]));
}

export default {
  render({ model, el }) {
    const build = () => {
      const rows = model.get("rows");
      const columns = model.get("columns");
      const cells = model.get("cells");
      const picked = model.get("picked") ?? [-1, -1];
      const head = heading(model.get("title"), model.get("note"));
      if (!rows.length || !columns.length) return [head, empty(model.get("when_empty"))];
      const buttons = [];
      const header = make("tr", {}, make("td", {}));
      columns.forEach((name) => header.append(make("th", { scope: "col", title: name }, make("span", {}, ...breakable(name)))));
      const body = rows.map((row, i) => {
        const line = make("tr", {}, make("th", { scope: "row", title: row, text: row }));
        columns.forEach((column, j) => {
          const cell = cells[i][j];
          if (!cell) {
            line.append(make("td", { class: "none", "aria-label": "no runs", text: "·" }));
            return;
          }
          const isPicked = picked[0] === i && picked[1] === j;
          const place = buttons.length;
          const button = make("button", {
            type: "button",
            class: `${cell.share > 0.95 ? "strong" : ""} ${cell.share > 0.82 ? "stark" : ""} ${isPicked ? "picked" : ""}`,
            "aria-pressed": String(isPicked),
            "aria-label": `${row}, ${column}: ${cell.tip}`,
            title: `${row} · ${column}\n${cell.tip}`,
            text: cell.text,
            "data-focus": `${i}.${j}`,
            style: { background: cellColour(cell.share) },
            on: {
              click: () => tell(model, { picked: [i, j] }),
              keydown: (event) => roving(event, buttons, place, columns.length),
            },
          });
          button.tabIndex = -1;
          buttons.push(button);
          line.append(make("td", {}, button));
        });
        return line;
      });
      (buttons.find((b) => b.getAttribute("aria-pressed") === "true") ?? buttons[0] ?? {}).tabIndex = 0;
      const table = make(
        "table",
        { "aria-label": model.get("title") },
        make("thead", {}, header),
        make("tbody", {}, ...body),
      );
      const hidden = model.get("hidden");
      const more = hidden > 0 && make("button", {
        type: "button", class: "link", text: `show all (${hidden} more)`,
        on: { click: () => tell(model, { show_all: true }) },
      });
      return [head, make("div", { class: "scroll" }, table), make("div", { class: "foot" },
        make("span", { class: "muted", text: model.get("caption") }), more)];
    };
    return live(model, el, ["rows", "columns", "cells", "picked", "title", "note", "caption", "hidden", "when_empty"], build, "heatmap");
  },
};
