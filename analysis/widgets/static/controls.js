// A row of labelled controls; their values go to Python as one dict.

export default {
  render({ model, el }) {
    const root = make("div", { class: "derail controls", role: "group", "aria-label": model.get("title") });
    el.append(root);
    const unfollow = followTheme(root);
    let sent = ""; // what this view sent needs no drawing again, which would swallow a click under way
    const set = (name, value) => {
      const values = { ...model.get("values"), [name]: value };
      sent = JSON.stringify(values);
      tell(model, { values });
    };
    let number = 0;

    const field = (spec, value) => {
      const id = `derail-${Math.random().toString(36).slice(2)}-${number++}`;
      const label = make("label", { for: id, text: spec.label });
      const shared = { id, title: spec.tip, "data-focus": spec.name };
      if (spec.kind === "button") {
        return make("div", { class: "field" }, make("button", {
          type: "button", class: spec.primary ? "primary" : "", text: spec.label, title: spec.tip, "data-focus": spec.name,
          // What was set just before may still wait for a busy kernel, which a click does not.
          on: { click: () => model.send({ click: spec.name, values: model.get("values") }) },
        }));
      }
      if (spec.kind === "checks") {
        const chips = spec.options.map(([key, text]) => {
          const box = make("input", { type: "checkbox", "data-focus": `${spec.name}.${key}`, on: { change: () => {
            const now = new Set(model.get("values")[spec.name]);
            if (box.checked) now.add(key);
            else now.delete(key);
            set(spec.name, spec.options.map(([k]) => k).filter((k) => now.has(k)));
          } } });
          box.checked = value.includes(key);
          return make("label", { class: "chip", title: spec.tip }, box, make("span", { text }));
        });
        return make("fieldset", { class: "field" }, make("legend", { text: spec.label }), make("div", { class: "chips" }, ...chips));
      }
      if (spec.kind === "select") {
        const select = make("select", { ...shared, on: { change: () => set(spec.name, spec.options[select.selectedIndex][0]) } },
          ...spec.options.map(([, text]) => make("option", { text })));
        select.selectedIndex = spec.options.findIndex(([key]) => key === value);
        return make("div", { class: "field" }, label, select);
      }
      let timer = 0;
      const send = () => {
        clearTimeout(timer);
        if (input.value !== model.get("values")[spec.name]) set(spec.name, input.value);
      };
      const input = make("input", {
        ...shared, type: spec.kind === "search" ? "search" : "text", placeholder: spec.placeholder, spellcheck: "false", autocomplete: "off",
        on: {
          input: () => { clearTimeout(timer); timer = setTimeout(send, 450); },
          change: send,
          keydown: (event) => { event.stopPropagation(); if (event.key === "Enter") send(); },
        },
      });
      input.value = value ?? "";
      return make("div", { class: `field ${spec.kind}` }, label, input);
    };

    const rebuild = () => {
      const held = root.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
      const values = model.get("values");
      const typed = document.activeElement?.value;
      root.replaceChildren(...model.get("fields").map((spec) => field(spec, values[spec.name])));
      const again = held && [...root.querySelectorAll("[data-focus]")].find((node) => node.dataset.focus === held);
      if (!again) return;
      if (again.type === "search" || again.type === "text") again.value = typed;
      again.focus();
    };
    rebuild();
    model.on("change:fields", rebuild);
    const revalue = () => { if (JSON.stringify(model.get("values")) !== sent) rebuild(); };
    model.on("change:values", revalue);
    return () => {
      unfollow();
      model.off("change:fields", rebuild);
      model.off("change:values", revalue);
    };
  },
};
