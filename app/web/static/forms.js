import { confirmed } from "./asked.js";
import { say } from "./said.js";
import * as typed from "./typed.js";

// Forms that call the API: <form data-api="PUT /api/v1/…" data-then="refresh | reload | /path/{field of the answer}">.
//
// Fields travel as JSON, or as multipart where the form has a file. `data-type` on a field: number, integer, boolean,
// list, json; an empty one is left out, and so is one that still has its `data-default`. `data-join` on a field: several of
// that name become one text. `a.b` as a name is `b` within `a`. Problems are shown at the field they are of.
//
// Attributes of forms are read by `getAttribute`: a field called `dataset` would take the place of `form.dataset`.
export function wireForms(root) {
  for (const form of root.querySelectorAll("form[data-api]:not([data-wired])")) {
    form.setAttribute("data-wired", "");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      submit(form);
    });
    form.addEventListener("input", (event) => clear(form, event.target.name));
    // Pressed before this was here: see early.js.
    if (form.hasAttribute("data-pressed")) submit(form);
  }
}

async function submit(form) {
  if (form.hasAttribute("aria-busy")) return;
  const question = form.getAttribute("data-confirm");
  if (question && !(await confirmed(question))) return;
  clear(form);
  busy(form, true);
  try {
    const answer = await send(form);
    if (answer.status >= 400) return show(form, answer);
    follow(form, answer.content);
  } catch {
    show(form, { content: { detail: "The server does not answer. Is it running?" } });
  } finally {
    busy(form, false);
  }
}

function busy(form, is) {
  if (is) form.setAttribute("aria-busy", "true");
  else form.removeAttribute("aria-busy");
  for (const button of form.querySelectorAll("button")) button.setAttribute("aria-disabled", is);
}

async function send(form) {
  const [method, url] = form.getAttribute("data-api").split(" ");
  if (form.querySelector("input[type=file]")) return upload(form, method, url);
  const body = method === "DELETE" ? undefined : JSON.stringify(fields(form));
  const headers = { Accept: "application/json", ...(body && { "Content-Type": "application/json" }), ...headersOf(form) };
  const response = await fetch(url, { method, body, headers });
  return { status: response.status, content: parsed(await response.text()) };
}

// `data-if-match` and the like: headers that a change needs.
function headersOf(form) {
  const tag = form.getAttribute("data-if-match");
  const key = form.getAttribute("data-idempotency-key");
  return { ...(tag && { "If-Match": tag }), ...(key && { "Idempotency-Key": key }) };
}

export function fields(form) {
  const body = {};
  for (const field of form.elements) {
    if (!field.name || field.matches(":disabled") || (field.type === "radio" && !field.checked)) continue;
    const value = valueOf(field);
    if (value === undefined) continue;
    const path = field.name.split(".");
    const last = path.pop();
    path.reduce((place, name) => (place[name] ??= {}), body)[last] = value;
  }
  return body;
}

function valueOf(field) {
  const { type, default: standard } = field.dataset;
  const text = field.type === "checkbox" ? String(field.checked) : field.value.trim();
  if (standard !== undefined && text === standard) return undefined;
  if (field.type === "checkbox") return field.checked;
  if (text === "") return undefined;
  // `data-per`: what is written as a part of so many, such as per cent, is sent as a part of one.
  if (type === "number" || type === "integer") return Number(text) / Number(field.dataset.per ?? 1);
  if (type === "list") return text.split("\n").map((line) => line.trim()).filter(Boolean);
  if (type === "json") return parsed(text) ?? text;
  return text;
}

// XMLHttpRequest, as fetch does not say how far an upload is.
function upload(form, method, url) {
  const body = new FormData(form);
  for (const field of form.querySelectorAll("[data-join]")) {
    const values = new FormData(form).getAll(field.name);
    body.delete(field.name);
    if (values.length) body.set(field.name, values.join(field.dataset.join));
  }
  const place = form.querySelector("[data-sending]");
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, url);
    request.setRequestHeader("Accept", "application/json");
    request.upload.addEventListener("progress", (event) => sent(place, event.loaded, event.total));
    request.addEventListener("loadend", () => place && (place.hidden = true));
    request.addEventListener("load", () => resolve({ status: request.status, content: parsed(request.responseText) }));
    request.addEventListener("error", reject);
    sent(place, 0, 1);
    request.send(body);
  });
}

function sent(place, loaded, total) {
  if (!place) return;
  place.hidden = false;
  place.querySelector("progress").value = total ? loaded / total : 0;
  place.querySelector("[data-sent]").textContent =
    loaded < total ? `${Math.floor((100 * loaded) / total)}% sent` : "Sent; being checked …";
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function show(form, answer) {
  const problem = answer.content ?? {};
  const detail = problem.detail ?? problem.error ?? `The server answered ${answer.status}.`;
  const places = problem.field ? form.querySelectorAll(`[data-problem-of~="${CSS.escape(problem.field)}"]`) : [];
  const place = [...places].find((each) => !each.closest("[hidden]"));
  const field = problem.field && form.querySelector(`[name="${CSS.escape(problem.field)}"]:enabled`);
  if (place) {
    place.closest("details")?.setAttribute("open", "");
    place.textContent = detail;
    field?.setAttribute("aria-invalid", "true");
    field?.focus();
  } else {
    const general = form.querySelector("[data-problem]");
    if (general) general.textContent = detail;
    else say(detail, "bad");
  }
}

function clear(form, name) {
  const problems = name ? `[data-problem-of~="${CSS.escape(name)}"], [data-problem]` : "[data-problem-of], [data-problem]";
  for (const place of form.querySelectorAll(problems)) place.textContent = "";
  const invalid = name ? `[name="${CSS.escape(name)}"][aria-invalid]` : "[aria-invalid]";
  for (const field of form.querySelectorAll(invalid)) field.removeAttribute("aria-invalid");
}

function follow(form, content) {
  const then = form.getAttribute("data-then") ?? "refresh";
  const done = form.getAttribute("data-done");
  if (done) say(done);
  if (then === "reload") return location.reload();
  if (then === "refresh") {
    if (form.hasAttribute("data-reset")) form.reset();
    else typed.sent(form);
    // Parts of the page that listen to it fetch themselves anew.
    document.body.dispatchEvent(new CustomEvent("changed"));
    form.dispatchEvent(new CustomEvent("answered", { bubbles: true, detail: content }));
    return undefined;
  }
  location.assign(then.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(content?.[name] ?? "")));
  return undefined;
}
