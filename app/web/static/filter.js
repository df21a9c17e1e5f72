// <input data-filter="#id">: only those children of #id are shown whose `data-name` holds what is typed.
export function wireFilters(root) {
  for (const field of root.querySelectorAll("input[data-filter]")) {
    if (field.dataset.wired) continue;
    field.dataset.wired = "yes";
    const apply = () => filter(field);
    field.addEventListener("input", apply);
    // What is put in anew is filtered as well.
    document.addEventListener("htmx:afterSettle", apply);
  }
}

function filter(field) {
  const list = document.querySelector(field.dataset.filter);
  if (!list) return;
  const wanted = field.value.trim().toLowerCase();
  let shown = 0;
  for (const row of list.children) {
    row.hidden = !row.dataset.name.includes(wanted);
    shown += !row.hidden;
  }
  const said = document.querySelector(`${field.dataset.filter}-shown`);
  if (said) said.textContent = wanted ? `${shown} of ${list.children.length}` : "";
}
