// What happened, in one line that is seen for a while and read aloud.
let timer;

export function say(text, tone = "good") {
  const place = document.getElementById("said");
  place.textContent = text;
  place.dataset.tone = tone;
  clearTimeout(timer);
  timer = setTimeout(() => (place.textContent = ""), 8000);
}
