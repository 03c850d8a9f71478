// What every page does: theme, table of contents, copy buttons, charts, sortable tables.
"use strict";

const readJson = (id) => {
  const script = document.getElementById(id);
  return script === null ? null : JSON.parse(script.textContent);
};
const readData = (name) => readJson(`data-${name}`);
const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

// -- theme: the reader's choice for this visit, else the system's
const darkSystem = matchMedia("(prefers-color-scheme: dark)");
const setTheme = (theme) => {
  document.documentElement.dataset.theme = theme;
  drawnCharts.forEach((container) => drawChart(container));
};
const drawnCharts = new Set();
document.getElementById("theme").addEventListener("click", () => {
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
});
darkSystem.addEventListener("change", () => setTheme(darkSystem.matches ? "dark" : "light"));

// -- charts: drawn when they come into view, in the colours of the page
const chartConfig = () => {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    background: "transparent",
    font: "system-ui, sans-serif",
    view: { stroke: "transparent" },
    mark: { color: colour("accent") },
    axis: {
      labelColor: colour("faint"), titleColor: colour("text"), domainColor: colour("line"),
      tickColor: colour("line"), gridColor: colour("line"), titleFontWeight: "normal",
    },
    header: { labelColor: colour("text"), titleColor: colour("text") },
    legend: { ...(innerWidth < 600 ? { orient: "bottom", columns: 3 } : {}), labelColor: colour("text"), titleColor: colour("text"), titleFontWeight: "normal" },
    title: { color: colour("text"), fontWeight: "normal", fontSize: 13 },
    text: { color: colour("text") },
    rule: { color: colour("faint") },
    style: { halo: { stroke: colour("page"), strokeWidth: 4, strokeOpacity: 0.85, strokeJoin: "round" } },
    range: {
      category: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f", "#a6761d", "#b3b300"],
      heatmap: { scheme: "viridis" },
    },
  };
};
const drawChart = async (container) => {
  drawnCharts.add(container);
  const spec = container.spec ?? readJson(`chart-${container.dataset.chart}`);
  container.view?.finalize();
  const result = await vegaEmbed(container, spec, {
    ast: true, renderer: "svg", config: chartConfig(), tooltip: { theme: document.documentElement.dataset.theme },
    actions: { export: true, source: false, compiled: false, editor: false },
    downloadFileName: container.dataset.chart,
    logLevel: vega.Error, // a cursor's layers are empty until the pointer comes: a warning otherwise
  });
  container.view = result.view;
  container.dataset.drawn = "true";
  container.dispatchEvent(new Event("drawn", { bubbles: true }));
};
const drawAll = () => Promise.all(
  [...document.querySelectorAll(".chart:not([data-drawn])")].map(drawChart));

// -- table of contents, from the sections' headings
const buildContents = () => {
  const contents = document.getElementById("contents");
  document.querySelectorAll("main section[id] > h2").forEach((heading) => {
    const link = document.createElement("a");
    link.href = `#${heading.parentElement.id}`;
    link.textContent = heading.textContent;
    contents.append(link);
  });
};

// -- copy buttons; without clipboard (old browsers, pages from disk) the text is selected instead
const copyText = async (button) => {
  const code = button.parentElement.querySelector("code");
  let done = "copied";
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    getSelection().selectAllChildren(code);
    done = document.execCommand("copy") ? "copied" : "selected";
  }
  button.textContent = done;
  setTimeout(() => { button.textContent = "copy"; }, 1500);
};

// -- sortable tables: numbers by data-value, missing values last in either direction
const sortTable = (header) => {
  const table = header.closest("table");
  const column = header.cellIndex;
  const ascending = header.getAttribute("aria-sort") !== "ascending";
  table.querySelectorAll("th[aria-sort]").forEach((th) => th.setAttribute("aria-sort", "none"));
  header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
  const compare = ([a], [b]) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const [x, y] = [Number(a), Number(b)];
    const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
    return ascending ? order : -order;
  };
  rows.sort(compare);
  table.tBodies[0].append(...rows.map(([, row]) => row));
};
const makeSortable = (root) => root.querySelectorAll("table.sortable thead th").forEach((header) => {
  header.setAttribute("aria-sort", "none");
  header.tabIndex = 0;
  header.addEventListener("click", () => sortTable(header));
  header.addEventListener("keydown", (event) => { if (event.key === "Enter") sortTable(header); });
});

document.documentElement.dataset.theme = darkSystem.matches ? "dark" : "light";
document.addEventListener("DOMContentLoaded", () => {
  buildContents();
  makeSortable(document);
  document.querySelectorAll("button.copy").forEach((button) => button.addEventListener("click", () => copyText(button)));
  const seen = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (entry.isIntersecting) { seen.unobserve(entry.target); drawChart(entry.target); }
  }), { rootMargin: "200px" });
  document.querySelectorAll(".chart").forEach((container) => seen.observe(container));
  addEventListener("beforeprint", drawAll);
});
