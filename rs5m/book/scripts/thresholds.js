// Two thresholds and a rule: precision and recall, and the pictures that change sides.
const rules = {
  both: (low, unlikely) => low && unlikely,
  either: (low, unlikely) => low || unlikely,
  score: (low) => low,
  probability: (low, unlikely) => unlikely,
};
const names = { both: "drop what both reject", either: "drop what either rejects", score: "the score alone", probability: "the detector alone" };
const own = { ...data.chosen };
let now = { ...data.chosen };
const across = root.querySelector(".across"), up = root.querySelector(".up");
const rule = choice("Rule", Object.entries(names), (value) => { now.rule = value; draw(); });
rule.value = now.rule;
slider("Threshold of the score", 0, 1, 0.001, now.score, (value) => { now.score = value; draw(); });
slider("Threshold of the detector", 0, 1, 0.001, now.probability, (value) => { now.probability = value; draw(); });
const shown = make("div", { "aria-live": "polite" }), pictures = make("div");
live.append(shown, pictures);

function dropped(i, t) {
  return rules[t.rule](data.score[i] < t.score, data.probability[i] < t.probability);
}

function measure(t) {
  let kept = 0, right = 0, views = 0;
  data.truth.forEach((view, i) => {
    const keep = !dropped(i, t);
    views += view; kept += keep; right += keep && view;
  });
  return { kept, right, views };
}

function row(title, list) {
  const some = list.filter((i) => data.tile[i] >= 0).slice(0, 30);
  const one = (i) => {
    const picture = tile(data.sheet, data.tile[i], 48);
    picture.setAttribute("role", "img");
    picture.setAttribute("aria-label", `${data.kind[i]}, ${data.score[i]}, ${data.probability[i]}`);
    picture.title = picture.getAttribute("aria-label");
    return picture;
  };
  return make("div", {}, make("p", {}, `${title}: ${list.length}`), make("div", { class: "tiles" }, ...some.map(one)));
}

function draw() {
  const { kept, right, views } = measure(now), percent = (a, b) => (b ? `${((100 * a) / b).toFixed(1)} %` : "none kept");
  up.setAttribute("x1", now.score * 300 + 40); up.setAttribute("x2", now.score * 300 + 40);
  across.setAttribute("y1", 210 - now.probability * 200); across.setAttribute("y2", 210 - now.probability * 200);
  shown.replaceChildren(make("p", {}, `Kept: ${kept} of ${data.truth.length} pictures. Precision ${percent(right, kept)}, recall ${percent(right, views)}.`));
  const all = data.truth.map((_, i) => i), was = (i) => !dropped(i, own), is = (i) => !dropped(i, now);
  pictures.replaceChildren(
    row("Kept by the chapter's rule, now dropped", all.filter((i) => was(i) && !is(i))),
    row("Dropped by the chapter's rule, now kept", all.filter((i) => !was(i) && is(i))),
    row("Kept, but no view", all.filter((i) => is(i) && !data.truth[i])),
  );
  root.dataset.counts = JSON.stringify([kept, right, views]);
}
draw();
