// Every chip of the test, four times: hover, tap or walk with the arrow keys.
let chip = 0;
const shown = make("div", { class: "row", "aria-live": "polite" });
live.append(make("p", {}, "Point at a chip, tap it, or focus a map and walk with the arrow keys."), shown);
const panels = [...root.querySelectorAll(".panel")];
const marks = panels.map((panel) => {
  const mark = make("rect", { width: 2.6, height: 2.6, fill: "none", stroke: "currentColor", "stroke-width": 0.8 });
  panel.append(mark);
  return mark;
});

function distance(i, x, y) {
  return (data.x[i] - x) ** 2 + (data.y[i] - y) ** 2;
}

function nearest(x, y, allowed = () => true) {
  let best = -1;
  data.x.forEach((_, i) => {
    if (allowed(i) && (best < 0 || distance(i, x, y) < distance(best, x, y))) best = i;
  });
  return best;
}

function place(i) {
  const lat = -data.y[i] - 0.5, lon = data.x[i] + 0.5;
  return `${Math.abs(lat)}° ${lat < 0 ? "S" : "N"}, ${Math.abs(lon)}° ${lon < 0 ? "W" : "E"}`;
}

function step(dx, dy) {
  const ahead = (i) => i !== chip && (data.x[i] - data.x[chip]) * dx + (data.y[i] - data.y[chip]) * dy > 0
    && Math.abs((data.x[i] - data.x[chip]) * dy) + Math.abs((data.y[i] - data.y[chip]) * dx)
      <= Math.abs((data.x[i] - data.x[chip]) * dx) + Math.abs((data.y[i] - data.y[chip]) * dy);
  const next = nearest(data.x[chip], data.y[chip], ahead);
  if (next >= 0) draw(next);
}

const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
for (const panel of panels) {
  panel.setAttribute("tabindex", "0");
  const point = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(panel.getScreenCTM().inverse());
    draw(nearest(at.x - 0.5, at.y - 0.5));
  };
  panel.addEventListener("pointermove", point);
  panel.addEventListener("pointerdown", point);
  panel.addEventListener("keydown", (event) => {
    if (!ways[event.key]) return;
    event.preventDefault();
    step(...ways[event.key]);
  });
}

function draw(next) {
  chip = next;
  for (const mark of marks) {
    mark.setAttribute("x", data.x[chip] - 0.8);
    mark.setAttribute("y", data.y[chip] - 0.8);
  }
  const truth = data.answers[0].of[chip];
  const rows = data.answers.map(({ name, of }, a) => {
    const key = make("span", { class: "key" });
    key.style.background = data.colours[of[chip]] || "#888";
    const verdict = a === 0 ? "" : of[chip] === truth ? "right" : "wrong";
    return [name, make("span", {}, key, data.classes[of[chip]] || "no answer"), verdict];
  });
  shown.replaceChildren(tile(data.sheet, chip, 120),
    make("div", { class: "wide" }, make("p", {}, `${place(chip)}: “${data.captions[chip]}”`), table(["according to", "land cover", "verdict"], rows)));
  root.dataset.chip = JSON.stringify([chip, ...data.answers.map(({ of }) => of[chip])]);
}
draw(nearest(20, 0)); // begin in the Congo basin
