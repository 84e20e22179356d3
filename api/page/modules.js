// The modules to search: a list that is searched by typing, for mouse and keyboard.
// Pattern: ARIA Authoring Practices, combobox with a listbox popup.

import { byId, count, element } from "./dom.js";
import { indexedModules } from "./server.js";

const SHOWN = 50;

export class ModulePicker {
  #input = byId("module-search");
  #list = byId("module-matches");
  #names = null;
  #chosen = new Set();
  #matches = [];
  #active = -1;

  constructor() {
    this.#input.addEventListener("focus", () => this.#load());
    this.#input.addEventListener("input", () => this.#search(0));
    this.#input.addEventListener("click", () => this.#search(-1));
    this.#input.addEventListener("blur", () => {
      this.#input.value = "";
      this.close();
    });
    this.#input.addEventListener("keydown", (event) => this.#key(event));
    this.#input.addEventListener("paste", (event) => this.#paste(event));
    // The input keeps the focus while the mouse chooses.
    byId("module-popup").addEventListener("mousedown", (event) => event.preventDefault());
    this.#list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.#toggle(option.dataset.name);
    });
    byId("picker").addEventListener("click", (event) => {
      if (event.target === event.currentTarget || event.target === byId("chips")) this.#input.focus();
    });
  }

  /** Names, or null for all modules. */
  get chosen() {
    return this.#chosen.size ? [...this.#chosen] : null;
  }

  async #load() {
    if (this.#names) return;
    try {
      this.#names = await indexedModules();
      this.#showChosen();
      if (this.#input.value) this.#search(0);
    } catch (error) {
      byId("module-hint").textContent = error.message;
    }
  }

  #key(event) {
    const open = !byId("module-popup").hidden;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      if (open) this.#activate(this.#active + step);
      else this.#search(step > 0 ? 0 : -1);
    } else if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) {
      if (open && this.#matches[this.#active]) this.#toggle(this.#matches[this.#active]);
      this.#input.select(); // what is typed next is another search
    } else if (event.key === "Escape" && open) {
      this.close();
    } else if (event.key === "Backspace" && !this.#input.value && this.#chosen.size) {
      this.#toggle([...this.#chosen].at(-1));
    } else {
      return;
    }
    event.preventDefault();
  }

  /** Lines of `import A.B` are many modules at once. */
  async #paste(event) {
    const words = event.clipboardData.getData("text").split(/\s+/).filter(Boolean);
    if (words.length < 2) return;
    event.preventDefault();
    await this.#load();
    const known = new Set(this.#names);
    for (const word of words) if (known.has(word)) this.#chosen.add(word);
    this.#showChosen();
  }

  #search(active) {
    if (!this.#names) return;
    const words = this.#input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = this.#names.filter((name) => words.every((word) => name.toLowerCase().includes(word)));
    this.#matches = all.slice(0, SHOWN);
    this.#list.replaceChildren(...this.#matches.map((name, i) => this.#option(name, i)));
    const more = all.length > SHOWN ? `; the first ${SHOWN} are shown` : "";
    byId("module-count").textContent = all.length ? `${count(all.length, "module")}${more}` : "No module matches.";
    byId("module-popup").hidden = false;
    this.#input.setAttribute("aria-expanded", "true");
    this.#activate(active);
  }

  #option(name, i) {
    const chosen = this.#chosen.has(name);
    return element("li", { role: "option", id: `module-${i}`, "aria-selected": chosen, "data-name": name }, name);
  }

  #activate(i) {
    this.#active = Math.min(Math.max(i, -1), this.#matches.length - 1);
    for (const option of this.#list.children) option.classList.remove("active");
    const option = this.#list.children[this.#active];
    if (option) {
      option.classList.add("active");
      option.scrollIntoView({ block: "nearest" });
      this.#input.setAttribute("aria-activedescendant", option.id);
    } else {
      this.#input.removeAttribute("aria-activedescendant");
    }
  }

  #toggle(name) {
    if (!this.#chosen.delete(name)) this.#chosen.add(name);
    this.#showChosen();
    for (const option of this.#list.children) {
      option.setAttribute("aria-selected", this.#chosen.has(option.dataset.name));
    }
  }

  #showChosen() {
    byId("module-hint").textContent = this.#chosen.size
      ? "Only premises of these modules, and the new declarations."
      : `None chosen: premises of all ${this.#names ? count(this.#names.length, "module") : "modules"}. Imports can be pasted.`;
    byId("chips").replaceChildren(...[...this.#chosen].map((name) => this.#chip(name)));
  }

  #chip(name) {
    const remove = element("button", { type: "button", "aria-label": `Remove ${name}`, title: "Remove" }, "×");
    remove.addEventListener("click", () => {
      this.#toggle(name);
      this.#input.focus();
    });
    return element("li", { class: "lean" }, name, remove);
  }

  close() {
    byId("module-popup").hidden = true;
    this.#input.setAttribute("aria-expanded", "false");
    this.#activate(-1);
  }
}
