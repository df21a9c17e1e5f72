// A choice (radio buttons `data-chooses`) between field sets (`data-choice="value"`): those not chosen are hidden, and not sent.
export function wireMethods(root) {
  // By `getAttribute`: a field called `dataset` would take the place of `form.dataset`.
  for (const form of root.querySelectorAll("form[data-chooses]:not([data-choosing])")) {
    form.setAttribute("data-choosing", "");
    const apply = () => choose(form);
    form.addEventListener("change", apply);
    apply();
  }
}

function choose(form) {
  const chosen = form.querySelector(`[name="${form.getAttribute("data-chooses")}"]:checked`)?.value;
  for (const part of form.querySelectorAll("[data-choice]")) {
    const is = part.dataset.choice.split(" ").includes(chosen);
    part.hidden = !is;
    if ("disabled" in part) part.disabled = !is;
  }
}
