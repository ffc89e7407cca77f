// The Python that made what is shown, to copy.

export default {
  render({ model, el }) {
    const build = () => {
      const said = make("span", { class: "muted", role: "status" });
      const block = make("pre", { class: "mono", tabindex: "0", "aria-label": model.get("title"), text: "" });
      block.textContent = model.get("code");
      const copy = async () => {
        try {
          await navigator.clipboard.writeText(model.get("code"));
          said.textContent = "copied";
        } catch {
          getSelection().selectAllChildren(block);
          said.textContent = "selected: press Ctrl+C";
        }
      };
      return [make("div", { class: "head" }, make("h3", { text: model.get("title") }),
        make("button", { type: "button", text: "copy", "data-focus": "copy", "aria-label": "copy the code", on: { click: copy } }), said), block];
    };
    return live(model, el, ["code", "title"], build, "code");
  },
};
