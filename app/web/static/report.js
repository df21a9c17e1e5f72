// The report, which is one file: its charts, and links that lead nowhere from a disk.
import { drawCharts } from "./charts.js";

drawCharts(document);

if (location.protocol === "file:") {
  for (const link of document.querySelectorAll("[data-served]")) link.remove();
}

// A chart is as wide as the paper then, and what is folded away cannot be unfolded there.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("main details:not(.as-table)")) details.open = true;
});
