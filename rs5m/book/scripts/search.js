// Find pictures by a sentence: typing narrows the sentences, whose answers the run has computed.
let model = 0, sentence = 0;
still.hidden = true;
const box = make("input", { type: "search", autocomplete: "off" });
live.append(make("label", {}, "Words to look for: ", box));
const select = choice("Sentence", [], (value) => { sentence = Number(value); draw(); });
choice("Model", data.models.map((one, i) => [i, one.name]), (value) => { model = Number(value); draw(); });
const told = make("p", { "aria-live": "polite" }), tiles = make("div", { class: "tiles" });
const detail = make("p", { "aria-live": "polite" });
live.append(told, tiles, detail);

const words = (text) => text.toLowerCase().split(/[^\p{L}\p{N}]+/u).filter(Boolean);

// Sentences that have the most of the words, whole or begun.
function fitting() {
  const asked = words(box.value);
  const shared = data.sentences.map((text) => asked.filter((word) => words(text).some((one) => one.startsWith(word))).length);
  const most = Math.max(...shared);
  return asked.length && !most ? [] : shared.flatMap((count, i) => (count === most ? [i] : []));
}

function narrow() {
  const found = fitting();
  select.replaceChildren(...found.map((i) => make("option", { value: i }, data.sentences[i])));
  sentence = found.length ? found[0] : -1;
  draw();
}

function button([picture, similarity]) {
  const element = tile(data.sheet, picture, 64, "button");
  element.setAttribute("type", "button");
  element.setAttribute("aria-label", data.captions[picture]);
  const tell = () => { detail.textContent = `“${data.captions[picture]}”, similarity ${similarity.toFixed(3)}.`; };
  for (const event of ["click", "focus", "pointerenter"]) element.addEventListener(event, tell);
  return element;
}

function draw() {
  const one = data.models[model], first = sentence < 0 ? [] : one.first[sentence];
  told.textContent = sentence < 0 ? "None of the computed sentences has these words."
    : `The ${first.length} nearest of ${data.captions.length} pictures; the picture that the sentence was written for is at place ${one.place[sentence]}.`;
  tiles.replaceChildren(...first.map(button));
  detail.textContent = first.length ? "Point at a picture, tap it or tab to it." : "";
  root.dataset.found = JSON.stringify([sentence, first.map(([picture]) => picture)]);
}
box.addEventListener("input", narrow);
narrow();
