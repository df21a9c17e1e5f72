// <label data-drop data-names="id"> around a file field: files may be dropped on it, and what was chosen is shown.
export function wireDrops(root) {
  for (const place of root.querySelectorAll("[data-drop]")) {
    if (place.dataset.wired) continue;
    place.dataset.wired = "yes";
    const field = place.querySelector("input[type=file]");
    field.addEventListener("change", () => chosen(place, field));
    field.form?.addEventListener("reset", () => setTimeout(() => chosen(place, field)));
    place.addEventListener("dragover", (event) => {
      event.preventDefault();
      place.classList.add("over");
    });
    place.addEventListener("dragleave", () => place.classList.remove("over"));
    place.addEventListener("drop", (event) => {
      event.preventDefault();
      place.classList.remove("over");
      if (!event.dataTransfer.files.length) return;
      field.files = event.dataTransfer.files;
      for (const kind of ["input", "change"]) field.dispatchEvent(new Event(kind, { bubbles: true }));
    });
    // A file may be there before this script is.
    if (field.files.length) chosen(place, field);
  }
}

// A file that misses the field must not take the page's place.
for (const kind of ["dragover", "drop"]) {
  document.addEventListener(kind, (event) => event.preventDefault());
}

function chosen(place, field) {
  const [file] = field.files;
  place.classList.toggle("full", Boolean(file));
  place.querySelector("[data-chosen]").textContent = file ? `${file.name} · ${size(file.size)}` : "";
  const name = place.dataset.names && document.getElementById(place.dataset.names);
  if (name && file && !name.value) name.value = nameOf(file.name, field.accept.split(",").filter(Boolean));
}

// What the file's name is as a name in the registry, without the endings that the field accepts.
function nameOf(file, endings) {
  let name = file.toLowerCase();
  for (let ending; (ending = endings.find((each) => name.endsWith(each))); ) name = name.slice(0, -ending.length);
  return name
    .replace(/[^a-z0-9._-]+/g, "-")
    .replace(/^[^a-z0-9]+/, "")
    .slice(0, 63);
}

function size(bytes) {
  const [unit, factor] = bytes >= 1e9 ? ["GB", 1e9] : bytes >= 1e6 ? ["MB", 1e6] : ["kB", 1e3];
  return `${(bytes / factor).toFixed(2)} ${unit}`;
}
