// The user's own declarations: a row each, and a dialog for many at once.

import { byId, element } from "./dom.js";

const KEYWORDS = "theorem|lemma|def|abbrev|instance|structure|class|inductive|axiom|opaque";
const NAMED = new RegExp(`(?:^|\\s)(?:${KEYWORDS})\\s+([^\\s:({\\[⦃]+)`);

/** The name that a declaration's text gives it, or nothing. */
export function nameOf(declaration) {
  return NAMED.exec(declaration)?.[1] ?? "";
}

export class NewPremises {
  #rows = byId("new-premises");

  constructor() {
    const dialog = byId("paste");
    byId("add-premise").addEventListener("click", () => this.#add("").querySelector("textarea").focus());
    byId("paste-premises").addEventListener("click", () => dialog.showModal());
    byId("paste-cancel").addEventListener("click", () => dialog.close());
    byId("paste-add").addEventListener("click", () => {
      for (const part of byId("pasted").value.split(/\n\s*\n/)) if (part.trim()) this.#add(part.trim());
      byId("pasted").value = "";
      dialog.close();
    });
  }

  /** `{name, decl}` of every row in which something is written. */
  get all() {
    const rows = [...this.#rows.children].map((row) => ({
      name: row.querySelector("input").value.trim(),
      decl: row.querySelector("textarea").value.trim(),
    }));
    return rows.filter((row) => row.name || row.decl).map((row, i) => ({ ...row, name: row.name || `unnamed ${i + 1}` }));
  }

  #add(declaration) {
    const name = element("input", { class: "lean", "aria-label": "Name", placeholder: "Name", spellcheck: "false",
      autocapitalize: "off", autocomplete: "off" });
    const text = element("textarea", { class: "lean", "aria-label": "Declaration", rows: 2, spellcheck: "false",
      autocapitalize: "off", placeholder: "theorem name (args) : type" });
    const remove = element("button", { type: "button", "aria-label": "Remove this declaration", title: "Remove" }, "×");
    const row = element("li", {}, name, remove, text);
    // The name follows the text until somebody writes another one.
    let follows = true;
    const follow = () => { if (follows) name.value = nameOf(text.value); };
    name.addEventListener("input", () => { follows = !name.value; });
    text.addEventListener("input", follow);
    remove.addEventListener("click", () => {
      row.remove();
      byId("add-premise").focus();
    });
    text.value = declaration;
    follow();
    this.#rows.append(row);
    return row;
  }
}
