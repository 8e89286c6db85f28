// Turn an image: what each caption scores at this angle, and over all views passed so far.
let image = 0, views = 1;
still.hidden = true;
const picture = choice("Image", data.captions.map((texts, i) => [i, texts[0]]), (value) => { image = Number(value); draw(); });
const step = data.angles[1] - data.angles[0];
slider("Turned so far, degrees", 0, 360, step, 0, (value) => { views = value / step + 1; draw(); });
const told = make("p", { "aria-live": "polite" }), shown = make("div", { class: "row" });
live.append(told, shown);

function over(values) {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length;
  return { mean, deviation: Math.sqrt(variance), worst: Math.min(...values) };
}

function first(scores) {
  return scores.indexOf(Math.max(...scores));
}

function chosen(stats) {
  const best = stats.map((_, i) => i).sort((a, b) => stats[b].mean - stats[a].mean || a - b).slice(0, 3);
  return {
    "mean minus deviation": first(stats.map((s) => s.mean - s.deviation)),
    "lowest variance": first(stats.map((s, i) => (best.includes(i) ? -(s.deviation ** 2) : -Infinity))),
    "worst case": first(stats.map((s) => s.worst)),
    mean: first(stats.map((s) => s.mean)),
  };
}

function draw() {
  const seen = data.similarity[image].slice(0, views), now = (views - 1) % data.angles.length;
  const captions = data.captions[image], at = data.similarity[image][now];
  const stats = captions.map((_, c) => over(seen.slice(0, data.angles.length).map((row) => row[c])));
  const picks = { "upright image alone": first(data.similarity[image][0]), ...chosen(stats) };
  const turned = tile(data.sheet, image, 170);
  turned.style.transform = `rotate(${-(views - 1) * step}deg)`;
  const most = Math.max(...data.similarity[image].flat(), 0.01);
  const bar = (value) => {
    const one = make("span", { class: "bar" });
    one.style.width = `${Math.max(0, (100 * value) / most)}%`;
    return make("span", {}, value.toFixed(3), one);
  };
  const rows = captions.map((text, c) => [`${text} (${data.kinds[c]})`, bar(at[c]), stats[c].mean.toFixed(3), stats[c].deviation.toFixed(3)]);
  const said = Object.entries(picks).map(([name, c]) => [name, data.kinds[c]]);
  const count = Math.min(views, data.angles.length);
  told.textContent = `After ${count} view${count > 1 ? "s" : ""}, mean minus deviation chooses “${captions[picks["mean minus deviation"]]}”.`;
  shown.replaceChildren(
    make("div", { class: "view" }, turned),
    make("div", { class: "wide" }, table(["caption", "at this angle", "mean so far", "deviation"], rows),
      table(["criterion", "chooses"], said)),
  );
  root.dataset.chosen = JSON.stringify(Object.values(picks));
}
draw();
