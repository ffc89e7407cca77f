// One event: what it is, its text, and the raw record that it came from.

const HEAD = 20000;

function longText(text, name) {
  const block = make("pre", { class: "text", tabindex: "0", "aria-label": name });
  block.textContent = visible(text.slice(0, HEAD));
  if (text.length <= HEAD) return [block];
  const more = make("button", {
    type: "button", class: "link", text: `show all ${text.length.toLocaleString("en")} characters`,
    on: { click: () => { block.textContent = visible(text); more.remove(); block.focus(); } },
  });
  return [block, more];
}

export default {
  render({ model, el }) {
    const build = () => {
      const event = model.get("event");
      if (!event) return [empty(model.get("when_empty"))];
      const pane = (title, parts, note) => make("section", {}, make("h4", {}, make("span", { text: title }), note && make("span", { class: "muted", title: note }, make("bdi", { text: note }))), ...parts);
      const raw = model.get("raw");
      const texts = [
        event.arguments !== null && pane("Arguments", longText(event.arguments, "arguments")),
        event.text !== null && pane("Text", longText(event.text, "text"), event.cut),
        event.text === null && event.arguments === null && pane("Text", [empty("The log holds no text for this event.")]),
      ];
      const record = pane("Raw record", raw === null ? [empty("reading the log \u2026")] : longText(raw, "raw record"), event.source);
      return [
        make("div", { class: "title" }, make("i", { class: "swatch", style: { background: `var(--k-${event.kind})` } }),
          make("h3", { text: event.title }), ...event.facts.map(([name, value]) => make("span", { class: `fact ${name}` , title: name, text: value }))),
        make("div", { class: "panes" }, make("div", {}, ...texts.filter(Boolean)), make("div", {}, record)),
      ];
    };
    return live(model, el, ["event", "raw", "when_empty"], build, "eventview");
  },
};
