// <… sse-connect data-ends="succeeded failed">: with one of these events a stream is over, and not to be opened again.
document.addEventListener("htmx:sseOpen", (event) => {
  const { source } = event.detail;
  for (const last of (event.target.dataset.ends ?? "").split(" ")) {
    if (last) source.addEventListener(last, () => source.close());
  }
});
