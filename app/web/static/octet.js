// Behaviour by attributes of the markup; each module says which. New parts of a page, which htmx puts in, get it too.
import { drawCharts } from "./charts.js";
import { wireDrops } from "./drop.js";
import { wireFilters } from "./filter.js";
import { wireExperiments } from "./experiment.js";
import { wireForms } from "./forms.js";
import "./kept.js";
import { wireMethods } from "./methods.js";
import { wireTries } from "./try.js";
import "./streams.js";

function wire(root) {
  wireExperiments(root);
  wireDrops(root);
  wireFilters(root);
  wireMethods(root);
  wireTries(root);
  // Last: it sends what was pressed before, with what the others fill in.
  wireForms(root);
  drawCharts(root);
}

wire(document);
document.addEventListener("htmx:load", (event) => wire(event.detail.elt));
