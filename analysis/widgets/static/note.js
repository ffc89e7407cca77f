// What is going on: progress, a warning, an error, or why there is nothing to see.

export default {
  render({ model, el }) {
    const build = (root) => {
      const texts = model.get("texts");
      const progress = model.get("progress");
      root.setAttribute("role", model.get("kind") === "error" ? "alert" : "status");
      root.dataset.kind = model.get("kind");
      root.hidden = !texts.length && progress === null;
      const signs = { error: "\u2716", warning: "\u25b2", info: "\u2139", progress: "" };
      return [
        ...texts.map((text) => make("p", {}, make("span", { class: "sign", "aria-hidden": "true", text: signs[model.get("kind")] ?? "" }),
          make("span", { text }))),
        progress !== null && make("progress", { max: 1, value: progress < 0 ? null : progress, "aria-label": texts[0] ?? "loading" }),
      ];
    };
    return live(model, el, ["texts", "kind", "progress"], build, "note");
  },
};
