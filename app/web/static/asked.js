// "Really?", as a dialog of the page; resolves to whether yes was pressed.
export function confirmed(question) {
  const dialog = document.getElementById("asked");
  dialog.querySelector("#asked-text").textContent = question;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
