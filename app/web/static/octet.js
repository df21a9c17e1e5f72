// Behaviour by attributes of the markup; each module says which. New parts of a page, which htmx puts in, get it too.
import { drawCharts } from "./charts.js";
import { wireDrops } from "./drop.js";
import { wireFilters } from "./filter.js";
import { wireForms } from "./forms.js";
import { wireMethods } from "./methods.js";
import "./streams.js";

function wire(root) {
  wireForms(root);
  wireDrops(root);
  wireFilters(root);
  wireMethods(root);
  drawCharts(root);
}

wire(document);
document.addEventListener("htmx:load", (event) => wire(event.detail.elt));
