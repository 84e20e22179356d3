// The answer: premises with their scores first, and what stands behind the names as soon as it is there.

import { bar, byId, element } from "./dom.js";

/** Shows hits; returns what fills in the declarations, given in the same order, null for unknown ones. */
export function showRanking(hits, newPremises) {
  const own = new Map(newPremises.map(({ name, decl }) => [name, decl]));
  const items = hits.map((hit, i) => item(hit, i + 1, own.get(hit.name)));
  byId("ranking").replaceChildren(...items);
  return (declarations) => declarations.forEach((declaration, i) => {
    if (declaration && !own.has(hits[i].name)) describe(items[i], declaration);
  });
}

function item({ name, score }, rank, decl) {
  const title = element("h3", { class: "lean" }, element("span", { class: "name" }, name));
  const meter = element("div", { class: "score", title: "Inner product of the embeddings; 1 is the most" },
    element("span", { class: "number" }, score.toFixed(3)), element("span", { class: "track" }, bar(score)));
  const about = element("div", { class: "about" }, title);
  if (decl !== undefined) {
    title.append(element("span", { class: "new" }, "new"));
    about.append(element("p", { class: "signature lean" }, decl));
  }
  return element("li", {}, element("span", { class: "rank", "aria-hidden": "true" }, String(rank)), about, meter);
}

function describe(shown, { kind, module, args, type, doc }) {
  const about = shown.querySelector(".about");
  shown.querySelector("h3").prepend(element("span", { class: "kind" }, kind), " ");
  const given = args.length ? `${args.join(" ")} : ` : ": ";
  about.append(element("p", { class: "signature lean" }, given, type), ...docOf(doc));
  about.append(element("p", { class: "module lean" }, module));
}

/** The first paragraph, and the others behind a click. */
function docOf(doc) {
  const [first, ...others] = (doc ?? "").trim().split(/\n\s*\n/);
  if (!first) return [];
  if (!others.length) return [paragraph(first)];
  return [paragraph(first), element("details", {}, element("summary", {}, "More"), ...others.map(paragraph))];
}

/** Text in which `this` is code. */
function paragraph(text) {
  const parts = text.split("`").map((part, i) => (i % 2 ? element("code", {}, part) : part));
  return element("p", { class: "doc" }, ...parts);
}
