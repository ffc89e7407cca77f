// What every piece begins with. Text from logs only ever goes through textContent and attributes
// that can't run anything. Nothing in this folder parses markup, and a test sees to it.

const SVG = "http://www.w3.org/2000/svg";

// Control characters would vanish and direction marks would reorder the text: both are shown.
function visible(text) {
  return String(text)
    .replace(/[\u0000-\u0008\u000b-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/\u007f/g, "\u2421")
    .replace(
      /[\u0080-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g,
      (c) => `\u2039U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}\u203a`,
    );
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") node.textContent = visible(value);
    else if (name === "on") for (const [event, run] of Object.entries(value)) node.addEventListener(event, run);
    else if (name === "style") for (const [key, rule] of Object.entries(value)) node.style.setProperty(key, rule);
    else if (name === "title" || name === "aria-label") node.setAttribute(name, visible(value));
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

function isDark() {
  const theme = document.body.dataset.jpThemeLight;
  if (theme) return theme === "false";
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

// Keeps the root's class in step with the theme; calls back so that a canvas can be drawn again.
function followTheme(root, redraw = () => {}) {
  const apply = () => {
    root.classList.toggle("dark", isDark());
    redraw();
  };
  apply();
  const observer = new MutationObserver(apply);
  observer.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
  return () => observer.disconnect();
}

// Drawing that follows the model: `body` is made anew after each change of `names`.
function live(model, el, names, build, klass) {
  const root = make("div", { class: `derail ${klass}` });
  el.append(root);
  const unfollow = followTheme(root);
  const rebuild = () => {
    const held = root.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    root.replaceChildren(...build(root).filter(Boolean));
    if (held) [...root.querySelectorAll("[data-focus]")].find((node) => node.dataset.focus === held)?.focus();
  };
  rebuild();
  let waiting = false; // several traits change with one message: draw once
  const soon = () => {
    if (waiting) return;
    waiting = true;
    queueMicrotask(() => { waiting = false; rebuild(); });
  };
  for (const name of names) model.on(`change:${name}`, soon);
  return () => {
    unfollow();
    for (const name of names) model.off(`change:${name}`, soon);
  };
}

function tell(model, changes) {
  for (const [name, value] of Object.entries(changes)) model.set(name, value);
  model.save_changes();
}

function heading(title, note) {
  if (!title && !note) return null;
  return make(
    "div",
    { class: "head" },
    title && make("h3", { text: title }),
    note && make("span", { class: "muted", text: note }),
  );
}

const empty = (text) => make("p", { class: "empty", text });

// Arrow keys move between items of a group of which one is in the tab order.
function roving(event, items, index, columns) {
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
  let next = index + (steps[event.key] ?? 0);
  if (event.key === "Home") next = 0;
  else if (event.key === "End") next = items.length - 1;
  else if (!(event.key in steps)) return;
  event.preventDefault();
  event.stopPropagation();
  if (next < 0 || next >= items.length) return;
  items[index].tabIndex = -1;
  items[next].tabIndex = 0;
  items[next].focus();
}
