// A choice (radio buttons `data-chooses`) between field sets (`data-choice="value"`): those not chosen are hidden, and not sent.
export function wireMethods(root) {
  for (const form of root.querySelectorAll("form[data-chooses]")) {
    if (form.dataset.choosing) continue;
    form.dataset.choosing = "yes";
    const apply = () => choose(form);
    form.addEventListener("change", apply);
    apply();
  }
}

function choose(form) {
  const chosen = form.querySelector(`[name="${form.dataset.chooses}"]:checked`)?.value;
  for (const part of form.querySelectorAll("[data-choice]")) {
    const is = part.dataset.choice.split(" ").includes(chosen);
    part.hidden = !is;
    if ("disabled" in part) part.disabled = !is;
  }
}
