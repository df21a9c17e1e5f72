// <form data-experiment>: what is chosen becomes the `arms`, `shadow`, `guardrails`, `ramp` and `coverage` of an experiment.
//
// The form sends itself (forms.js) as a draft; pressed by "Start", the draft is started, and its page is shown.
import { say } from "./said.js";

export function wireExperiments(root) {
  for (const form of root.querySelectorAll("form[data-experiment]")) {
    if (form.dataset.composing) continue;
    form.dataset.composing = "yes";
    const apply = () => compose(form);
    form.addEventListener("input", apply);
    form.addEventListener("change", apply);
    form.addEventListener("submit", (event) => (form.dataset.wanted = event.submitter?.value ?? "draft"));
    form.addEventListener("answered", (event) => made(form, event.detail));
    form.querySelector("[data-add-guard]").addEventListener("click", () => addGuard(form));
    apply();
  }
}

function compose(form) {
  const part = (name) => form.querySelector(`[data-${name}]`);
  const control = part("control").value;
  const chosen = [...form.querySelectorAll("[data-arm]")].filter((each) => offered(each, control)).map((each) => each.dataset.arm);
  const weight = (version) => Number(form.querySelector(`[data-weight-of="${version}"] input`).value);
  for (const each of form.querySelectorAll("[data-weight-of]")) {
    each.hidden = !(each.dataset.weightOf === control || chosen.includes(each.dataset.weightOf));
  }
  const arms = [
    { variant: control, weight: weight(control), control: true },
    ...chosen.map((variant) => ({ variant, weight: weight(variant) })),
  ];
  const sample = Number(part("sample").value) / 100;
  const shadow = part("shadow").checked ? chosen.map((variant) => ({ variant, sample })) : [];
  put(form, "arms", arms);
  put(form, "shadow", shadow);
  put(form, "guardrails", guardrails(form, shadow.length > 0));
  traffic(form, part);
  summarise(form, arms);
}

// The control is not tried as well.
function offered(choice, control) {
  const box = choice.querySelector("[data-arm-chosen]");
  const isControl = choice.dataset.arm === control;
  box.disabled = isControl;
  if (isControl) box.checked = false;
  choice.querySelector("[data-is-control]").hidden = !isControl;
  return box.checked;
}

function traffic(form, part) {
  const how = part("traffic").value;
  for (const each of form.querySelectorAll("[data-when]")) each.hidden = each.dataset.when !== how;
  const steps = part("steps").value.split(/[\s,;]+/).filter(Boolean).map((text) => Number(text) / 100);
  const ramp = { steps, hold_s: Number(part("hold").value) * 60, min_units: Number(part("min-units").value) };
  put(form, "ramp", how === "ramp" ? ramp : undefined);
  put(form, "coverage", how === "part" ? Number(part("coverage").value) / 100 : undefined);
}

function guardrails(form, shadowed) {
  return [...form.querySelectorAll("[data-guard]")].flatMap((row) => {
    const { metric, kind } = row.dataset;
    row.querySelector("[data-guarded]").disabled = metric === "disagreement" && !shadowed;
    if (!row.querySelector("[data-guarded]:enabled")?.checked) return [];
    const limit = Number(row.querySelector("[data-limit]").value);
    if (row.dataset.outcome === undefined) return [{ metric, [kind]: limit / 100 }];
    const lower = row.querySelector("[data-lower]").checked;
    return [{ metric: `outcome:${row.querySelector("[data-outcome-name]").value}`, margin_abs: limit, lower_is_better: lower }];
  });
}

function put(form, name, value) {
  form.elements.namedItem(name).value = value === undefined ? "" : JSON.stringify(value);
}

function summarise(form, arms) {
  const total = arms.reduce((sum, arm) => sum + arm.weight, 0);
  const name = (version) => form.querySelector(`[data-control] option[value="${version}"]`).textContent;
  const said = arms.map((arm) => `${name(arm.variant)} ${total ? Math.round((100 * arm.weight) / total) : 0}%`).join(", ");
  form.querySelector("[data-summary]").textContent = arms.length > 1 ? said : "Choose at least one variant.";
}

function addGuard(form) {
  const row = form.querySelector("[data-guard-template]").content.cloneNode(true).firstElementChild;
  form.querySelector("[data-guards]").append(row);
  row.querySelector("[data-outcome-name]").select();
  compose(form);
}

async function made(form, experiment) {
  const page = `/experiments/${encodeURIComponent(experiment.id)}`;
  if (form.dataset.wanted !== "start") return location.assign(page);
  const url = `/api/v1/models/${encodeURIComponent(form.dataset.model)}/experiments/${encodeURIComponent(experiment.id)}/start`;
  say("The variants are being loaded …");
  const answer = await fetch(url, { method: "POST", headers: { "Idempotency-Key": `${experiment.id}-first` } });
  if (answer.ok) return location.assign(page);
  const problem = await answer.json().catch(() => ({}));
  const link = document.createElement("a");
  link.href = page;
  link.textContent = "See the draft.";
  form.querySelector("[data-problem]").replaceChildren(`It was set up, but does not start: ${problem.detail ?? answer.status}. `, link);
  return undefined;
}
