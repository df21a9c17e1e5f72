// Before modules are there: a form of the API is never sent as browsers send forms, and what was pressed is not lost.
document.addEventListener("submit", (event) => {
  if (!event.target.matches("form[data-api], form[data-try]")) return;
  event.preventDefault();
  if (!event.target.hasAttribute("data-wired")) event.target.setAttribute("data-pressed", "");
});
