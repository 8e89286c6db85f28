// What became of the pairs: every count is over all of them, the pictures are a sample.
still.hidden = true;
const fields = ["stage", "reason", "source", "truth"];
const asked = { stage: "", reason: "", source: "", truth: "" };
const kinds = ["no view from above", "view from above"];
const show = (field, value) => (field === "truth" ? kinds[value] : String(value).replaceAll("_", " "));
const selects = Object.fromEntries(fields.map((field) => [field, choice(field === "truth" ? "truth" : field, [], (value) => {
  asked[field] = value;
  if (field === "stage") asked.reason = "";
  draw();
})]));
const shown = make("p", { "aria-live": "polite" }), tiles = make("div", { class: "tiles" });
const detail = make("p", { "aria-live": "polite" });
live.append(shown, tiles, detail);

function fits(row, but = "") {
  return fields.every((field) => field === but || asked[field] === "" || String(row[field]) === asked[field]);
}

function count(rows) {
  return rows.reduce((total, row) => total + row.pairs, 0);
}

function options(field) {
  const rows = data.counts.filter((row) => fits(row, field));
  const values = [...new Set(rows.map((row) => row[field]))];
  const one = (value) => make("option", { value }, `${show(field, value)} (${count(rows.filter((row) => row[field] === value)).toLocaleString("en")})`);
  selects[field].replaceChildren(make("option", { value: "" }, "any"), ...values.map(one));
  selects[field].value = asked[field];
}

function tell(pair) {
  const fate = pair.stage === "kept" ? "kept" : `dropped at ${pair.stage}: ${show("reason", pair.reason)}`;
  detail.textContent = `“${pair.text}” (${pair.source}; ${kinds[pair.truth]}): ${fate}.`;
}

function button(pair) {
  const element = tile(data.sheet, pair.tile, 64, "button");
  element.setAttribute("type", "button");
  element.setAttribute("aria-label", pair.text || "no text");
  for (const event of ["click", "focus", "pointerenter"]) element.addEventListener(event, () => tell(pair));
  return element;
}

function draw() {
  fields.forEach(options);
  const rows = data.counts.filter((row) => fits(row)), all = count(rows), views = count(rows.filter((row) => row.truth));
  const some = data.pairs.filter((pair) => fits(pair)).sort((a, b) => (b.tile >= 0) - (a.tile >= 0));
  const drawn = some.slice(0, 100);
  shown.textContent = `${all.toLocaleString("en")} pairs, ${views.toLocaleString("en")} of them views from above. ${drawn.length} are shown; grey ones left no picture.`;
  tiles.replaceChildren(...drawn.map(button));
  detail.textContent = "Point at a picture, tap it or tab to it.";
  root.dataset.counts = JSON.stringify([all, views, some.length]);
}
draw();
