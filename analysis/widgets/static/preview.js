// A figure at the size that it will have in print. It is an image, so nothing inside it can run.

export default {
  render({ model, el }) {
    const build = () => {
      const head = heading(model.get("title"), model.get("note"));
      if (!model.get("picture")) return [head, empty(model.get("when_empty"))];
      const image = make("img", { alt: model.get("alt"), src: model.get("picture"), width: model.get("width") });
      return [head, make("div", { class: `sheet ${model.get("theme")}`, tabindex: "0", role: "group", "aria-label": model.get("title") }, image),
        make("p", { class: "muted", text: model.get("caption") })];
    };
    return live(model, el, ["picture", "width", "theme", "title", "note", "caption", "when_empty"], build, "preview");
  },
};
