// The form: asks, shows what came, and says what went wrong.

import { byId, count, element, milliseconds } from "./dom.js";
import { ModulePicker } from "./modules.js";
import { NewPremises } from "./new_premises.js";
import { showRanking } from "./ranking.js";
import { declarations, retrieve } from "./server.js";
import { StatusPanel } from "./status.js";
import { showTimings } from "./timings.js";

const EXAMPLES = {
  sums: "a b c : Nat\n⊢ a + b + c = c + (b + a)",
  logic: "p q r : Prop\n⊢ p ∧ (q ∨ r) ↔ p ∧ q ∨ p ∧ r",
  lists: "α : Type u\nxs ys : List α\n⊢ (xs ++ ys).length = ys.length + xs.length",
};

class Form {
  #modules = new ModulePicker();
  #newPremises = new NewPremises();
  #running = null;

  constructor() {
    const form = byId("ask");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#ask();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.#ask();
      }
    });
    byId("cancel").addEventListener("click", () => this.#running?.abort());
    byId("examples").append(...Object.entries(EXAMPLES).map(([name, goal]) => this.#example(name, goal)));
  }

  #example(name, goal) {
    const button = element("button", { type: "button", class: "link" }, name);
    button.addEventListener("click", () => {
      byId("goal").value = goal;
      this.#ask();
    });
    return button;
  }

  async #ask() {
    this.#running?.abort();
    const running = new AbortController();
    this.#running = running;
    this.#modules.close();
    this.#busy(true);
    try {
      await this.#answer(running.signal);
    } catch (error) {
      if (error.name !== "AbortError") showProblem(error.message);
      else if (this.#running === running) byId("summary").textContent = "Cancelled.";
    } finally {
      if (this.#running === running) this.#busy(false);
    }
  }

  async #answer(signal) {
    const own = this.#newPremises.all;
    const body = { state: byId("goal").value, k: byId("k").value, imported_modules: this.#modules.chosen,
      new_premises: own };
    const start = performance.now();
    const answer = await retrieve(body, signal);
    const hits = await answer.json();
    const ms = performance.now() - start;
    const dropped = Number(answer.headers.get("X-New-Premises-Dropped"));
    byId("summary").textContent = `${count(hits.length, "premise")} in ${milliseconds(ms)}` +
      (dropped ? `; the first ${count(dropped, "new declaration")} were too many` : "");
    byId("problem").hidden = byId("nothing").hidden = true;
    if (byId("premises").getBoundingClientRect().top > innerHeight) byId("premises").scrollIntoView();
    showTimings(answer.headers.get("Server-Timing"), ms);
    const describe = showRanking(hits, own);
    // Names and scores stay if what stands behind them cannot be had.
    if (hits.length) describe(await declarations(hits.map((hit) => hit.name), signal).catch(() => []));
  }

  #busy(busy) {
    byId("cancel").hidden = !busy;
    byId("premises").setAttribute("aria-busy", busy);
    if (busy) byId("summary").textContent = "Asking…";
  }
}

function showProblem(message) {
  byId("summary").textContent = "";
  byId("ranking").replaceChildren();
  byId("timings").hidden = byId("nothing").hidden = true;
  byId("problem").textContent = message;
  byId("problem").hidden = false;
}

new Form();
new StatusPanel().start();
