// Elements, built from names and text. What pages wrote becomes text here, and never markup.

// `make("button", {class: "x", type: "button", onclick: fn}, "text", child)`: attributes, listeners, then children;
// strings become text, null and false are left out.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// An element by its tag, its class and its text: the most frequent case. A button is one that sends no form.
export const node = (tag, name = "", text = "") =>
  make(tag, { class: name || null, type: tag === "button" ? "button" : null }, text || null);

export const button = (label, onclick, attributes = {}) => make("button", { type: "button", onclick, ...attributes }, label);

// Copies a text, also where the page may not use the clipboard: it is no secure context over plain HTTP.
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { class: "unseen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const isCopied = document.execCommand("copy");
    area.remove();
    return isCopied;
  }
}
