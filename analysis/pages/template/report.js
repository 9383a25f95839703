"use strict";
// The page's chart, its slider over samples, and tables that sort.

const data = JSON.parse(document.getElementById("data").textContent);
const spec = JSON.parse(document.getElementById("spec").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const shown = new Set(data.points.map((point) => point.index));
const find = (id) => document.getElementById(id);
let view = null;

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** A colour as it is legible on the page's background. */
function legible(color) {
  if (!dark.matches) return color;
  const parts = [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16));
  const light = 0.3 * parts[0] + 0.59 * parts[1] + 0.11 * parts[2];
  const mix = light < 110 ? 0.55 : 0;
  return `rgb(${parts.map((part) => Math.round(part + mix * (255 - part))).join(",")})`;
}

/** Whether a point has the chosen value of every key. */
function chosen(point) {
  return data.keys.every(({ key }, number) => {
    const wanted = find(`filter-${number}`).value;
    return wanted === "" || point.values[key] === wanted;
  });
}

/** What the chart draws now: a row for each mark. */
function rows() {
  const curves = data.curves[find("metric").value];
  const wants = (id) => find(id).checked;
  const found = [];
  for (const point of data.points) {
    const curve = curves[point.index];
    if (!shown.has(point.index) || !chosen(point) || !curve) continue;
    const base = { point: point.index, name: point.name, color: legible(point.color), shape: point.shape };
    const add = (kind, t, values) => found.push({ ...base, kind, t, ...values });
    curve.t.forEach((t, i) => {
      const [value, low, high] = [curve.mean[i], curve.low[i], curve.high[i]];
      add("mean", t, { value, low, high, forecast: curve.forecast?.[t] ?? null });
      if (wants("bands")) add("band", t, { low, high });
      if (wants("seeds")) {
        for (const [seed, own] of Object.entries(curve.seeds ?? {})) add("seed", t, { seed, value: own[i] });
      }
    });
    if (wants("forecasts")) (curve.forecast ?? []).forEach((value, t) => value !== null && add("forecast", t, { value }));
    if (wants("bounds")) {
      (curve.bounds ?? []).forEach((bound, seed) =>
        bound.forEach((value, t) => value !== null && add("bound", t, { seed, value })));
    }
  }
  return found;
}

function update() {
  if (view) view.data("rows", rows()).resize().runAsync();
}

async function draw() {
  const style = getComputedStyle(document.documentElement);
  const [ink, line] = [style.getPropertyValue("--ink").trim(), style.getPropertyValue("--line").trim()];
  const axis = { labelColor: ink, titleColor: ink, gridColor: line, domainColor: ink, tickColor: ink, labelFontSize: 12, titleFontSize: 13 };
  const options = { actions: { export: true, source: false, compiled: false, editor: false }, renderer: "svg", logLevel: 1 };
  const config = { axis, view: { stroke: null } };
  const drawn = await window.drawChart("#chart", { ...spec, datasets: { rows: rows() }, config }, options);
  view = drawn.view;
}

/** A check box for each point, and selections for the metric and each key. */
function fill() {
  find("metric").append(...data.metrics.map(({ name, label }) =>
    make("option", { value: name, textContent: label === name ? name : `${label} (${name})` })));
  data.keys.forEach(({ key, symbol, values }, number) => {
    const select = make("select", { id: `filter-${number}` }, make("option", { value: "", textContent: "all" }),
      ...values.map((value) => make("option", { value, textContent: value })));
    if (key === data.apart) select.value = values.at(-1);
    select.addEventListener("change", update);
    find("filters").append(make("label", {}, `${symbol} `, select));
  });
  for (const point of data.points) {
    const box = make("input", { type: "checkbox", checked: true, value: point.index });
    box.addEventListener("change", () => {
      if (box.checked) shown.add(point.index); else shown.delete(point.index);
      update();
    });
    const dot = make("i");
    dot.style.background = point.color;
    find("points").append(make("label", {}, box, dot, point.name));
  }
  for (const id of ["metric", "bands", "seeds", "forecasts", "bounds"]) find(id).addEventListener("change", update);
  for (const [id, checked] of [["all", true], ["none", false]]) {
    find(id).addEventListener("click", () => {
      for (const box of find("points").querySelectorAll("input")) {
        if (box.checked !== checked) { box.checked = checked; box.dispatchEvent(new Event("change")); }
      }
    });
  }
  if (!data.seeds) find("seeds").disabled = true;
}

/** Moves every strip of samples to an iteration, the last one at or before it. */
function slide() {
  const wanted = Number(find("t").value);
  find("at").textContent = `t=${wanted}`;
  for (const strip of document.querySelectorAll(".strip div")) {
    const iterations = strip.dataset.iterations.split(",").map(Number);
    const place = iterations.filter((t) => t <= wanted).length - 1;
    strip.style.backgroundPosition = `${-160 * Math.max(place, 0)}px 0`;
    strip.setAttribute("aria-label", `samples at t=${iterations[Math.max(place, 0)]}`);
  }
}

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.order ?? row.cells[column].textContent;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      const numbers = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
      return numbers ? x - y : x.localeCompare(y);
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort((a, b) => (down ? -1 : 1) * compare(a, b)));
  }));
}

if (data.metrics.length) {
  fill();
  draw();
  dark.addEventListener("change", draw);
}
if (find("t")) {
  find("t").addEventListener("input", slide);
  slide();
}
document.querySelectorAll("table.sortable").forEach(sortable);
