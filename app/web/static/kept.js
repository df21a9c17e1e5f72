// Parts with `data-keeps` that htmx puts in anew: what was open in them stays open, and what was scrolled stays there.
const kept = new WeakMap();

document.addEventListener("htmx:beforeSwap", (event) => {
  const part = event.detail.target;
  if (!part?.matches?.("[data-keeps]")) return;
  const open = [...part.querySelectorAll("details")].map((each) => each.open);
  const scrolled = [...part.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
  const names = part.querySelector(":focus")?.getAttribute("aria-label");
  kept.set(event.detail.xhr, { id: part.id, open, scrolled, names });
});

document.addEventListener("htmx:afterSwap", (event) => {
  const before = kept.get(event.detail.xhr);
  const part = before && document.getElementById(before.id);
  if (!part) return;
  // By position: what comes anew has the same parts, or else others that were never opened.
  const details = [...part.querySelectorAll("details")];
  if (details.length === before.open.length) details.forEach((each, index) => (each.open = before.open[index]));
  const scrolls = [...part.querySelectorAll(".scroll")];
  if (scrolls.length === before.scrolled.length) scrolls.forEach((each, index) => (each.scrollLeft = before.scrolled[index]));
  // htmx keeps the focus of what has an id; regions that scroll are known by their names.
  if (before.names && document.activeElement === document.body) {
    part.querySelector(`[aria-label="${CSS.escape(before.names)}"]`)?.focus({ preventScroll: true });
  }
});
