// What the parts share. `root` is the part's element, `data` what the run wrote into it.
const data = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
const still = root.querySelector(".still");
const live = make("div", { class: "live" });
root.append(live);

function make(tag, attributes = {}, ...children) {
  const svg = ["rect", "line", "circle"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// One picture out of a sheet of pictures, drawn `size` pixels wide; a grey square where there is none.
function tile(sheet, index, size, tag = "span") {
  const element = make(tag, { class: "tile" });
  element.style.width = element.style.height = `${size}px`;
  if (index >= 0) {
    const x = index % sheet.columns, y = Math.floor(index / sheet.columns);
    element.style.backgroundImage = `url(${sheet.src})`;
    element.style.backgroundSize = `${sheet.columns * size}px auto`;
    element.style.backgroundPosition = `${-x * size}px ${-y * size}px`;
  }
  return element;
}

function slider(text, least, most, step, value, changed) {
  const shown = make("output", {}, String(value));
  const input = make("input", { type: "range", min: least, max: most, step });
  input.value = value;
  input.addEventListener("input", () => { shown.textContent = input.value; changed(Number(input.value)); });
  live.append(make("label", {}, `${text}: `, shown, input));
  return input;
}

function choice(text, options, changed) {
  const select = make("select", {}, ...options.map(([value, name]) => make("option", { value }, name)));
  select.addEventListener("change", () => changed(select.value));
  const label = make("label", {}, `${text}: `, select);
  live.append(label);
  return select;
}

function table(head, rows) {
  const line = (tag) => (cells) => make("tr", {}, ...cells.map((cell) => make(tag, {}, cell)));
  return make("div", { class: "scroll", tabindex: "0" }, make("table", {}, make("thead", {}, line("th")(head)), make("tbody", {}, ...rows.map(line("td")))));
}
