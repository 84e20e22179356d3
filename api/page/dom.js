// Building the document. What comes from the server or the user is only ever text, never markup.

export const byId = (id) => document.getElementById(id);

/** An element; attributes that are false or null are left out, children are nodes or strings. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

/** A bar as long as this share (0 to 1) of what it lies in, beginning at another share. */
export function bar(length, start = 0, kind = "") {
  const made = element("span", { class: `bar ${kind}` });
  const percent = (share) => `${100 * Math.min(1, Math.max(0, share))}%`;
  made.style.width = percent(length);
  made.style.marginInlineStart = percent(start);
  return made;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (number, one, many = `${one}s`) => `${whole.format(number)} ${number === 1 ? one : many}`;
export const figure = (number) => (number == null ? "–" : whole.format(number));

export function milliseconds(ms) {
  return `${ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`;
}
