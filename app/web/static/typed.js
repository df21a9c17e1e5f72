// <form id data-keeps-typed> in a part that htmx puts in anew: what a person has typed and not sent yet stays.
//
// A field that somebody else changed meanwhile keeps it too, and the form says what it became: sending it is then a choice.
document.addEventListener("htmx:oobBeforeSwap", (event) => {
  const { target, fragment } = event.detail;
  for (const form of target.querySelectorAll("form[data-keeps-typed]")) {
    const fresh = fragment.querySelector(`#${CSS.escape(form.id)}`);
    if (fresh) keep(form, fresh);
  }
});

function keep(form, fresh) {
  const told = [];
  for (const field of form.elements) {
    const next = field.name && fresh.querySelector(`[name="${CSS.escape(field.name)}"]`);
    if (!next || field.value === field.defaultValue || field.value === next.defaultValue) continue;
    next.value = field.value;
    if (next.defaultValue !== field.defaultValue) told.push(`${field.labels[0].textContent} became ${next.defaultValue} meanwhile.`);
  }
  if (told.length) fresh.querySelector("[data-problem]").textContent = told.join(" ");
}

// What was sent is what is, and nothing that has yet to be.
export function sent(form) {
  for (const field of form.elements) if ("defaultValue" in field) field.defaultValue = field.value;
}
