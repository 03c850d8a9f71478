// The page of a run: curves of a chosen quantity, confusion matrix, images, search in the configuration.
"use strict";

const classNames = readData("names");
const shownPercent = (share) => `${(100 * share).toFixed(share < 0.9995 && share > 0.0005 ? 1 : 2)}%`;

// -- images: cut from the page's one PNG
const sprite = readData("sprite");
const loadSprite = async () => {
  if (sprite === null) return null;
  const image = new Image();
  image.src = `data:image/png;base64,${sprite.png}`;
  await image.decode();
  return image;
};
const spriteImage = loadSprite();
const hasTile = (tile) => sprite !== null && tile >= 0 && tile < sprite.count;
const tileCanvas = (tile) => {
  const canvas = element("canvas", { width: sprite.width, height: sprite.height });
  spriteImage.then((image) => {
    const [x, y] = [(tile % sprite.columns) * sprite.width, Math.floor(tile / sprite.columns) * sprite.height];
    canvas.getContext("2d").drawImage(image, x, y, sprite.width, sprite.height, 0, 0, sprite.width, sprite.height);
    canvas.dataset.drawn = "true";
  });
  return canvas;
};
const caption = (shown) => {
  const lines = [];
  const wrong = shown.predicted !== undefined && shown.predicted !== null && shown.predicted !== shown.true;
  lines.push(wrong ? `true ${classNames[shown.true]}` : classNames[shown.true]);
  if (wrong) lines.push(`predicted ${classNames[shown.predicted]}`);
  if (shown.p !== undefined) lines.push(`p = ${shownPercent(shown.p)}`);
  if (shown.norm !== undefined && shown.norm !== null) lines.push(`norm ${shown.norm.toPrecision(3)}`);
  lines.push(`no. ${shown.row}`);
  return lines;
};
const figureOf = (shown) => {
  const figure = element("figure");
  if (hasTile(shown.tile)) figure.append(tileCanvas(shown.tile));
  if (shown.predicted !== undefined && shown.predicted !== null) {
    figure.className = shown.predicted === shown.true ? "right-image" : "wrong-image";
  }
  figure.append(element("figcaption", {}, ...caption(shown).flatMap((line, i) => (i ? [element("br"), line] : [line]))));
  return figure;
};
const fillImages = () => {
  document.querySelectorAll("[data-images]").forEach((place) => {
    place.append(...readData(place.dataset.images).filter((shown) => hasTile(shown.tile) || place.dataset.images === "hardest").map(figureOf));
  });
  document.querySelectorAll("[data-rows]").forEach((table) => {
    const rows = readData(table.dataset.rows).filter((row) => row.every(({ tile }) => hasTile(tile)));
    table.append(element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(({ tile }) => element("td", {}, tileCanvas(tile)))))));
  });
};

// -- curves: a panel shows the quantity chosen above it, of all folds or of one
const curves = readData("curves");
const curvesOf = (container, quantity, fold) => {
  const lines = quantity.lines.filter((line) => fold === "" || line.fold === Number(fold));
  const [folds, parts] = ["fold", "part"].map((key) => new Set(lines.map((line) => line[key])));
  const byFold = folds.size > 1;
  const name = (line) => (byFold ? `fold ${line.fold}` : line.part || quantity.title);
  const series = (line) => (byFold && parts.size > 1 ? `fold ${line.fold}, ${line.part}` : name(line));
  const rows = lines.flatMap((line, n) => line.x.map((x, i) => (
    { x, y: line.y[i], id: `r${n}`, colour: name(line), part: line.part })));
  const spec = structuredClone(readJson(`chart-${container.dataset.chart}`));
  const format = quantity.percent ? ".3~%" : ".4~g";
  const title = parts.size === 1 ? [...parts, quantity.title].filter((word) => word !== "").join(" ") : quantity.title;
  const least = Math.min(...lines.map((line) => line.x.length));
  spec.data.values = rows;
  spec.layer.forEach(({ encoding }) => {
    if (encoding.y) Object.assign(encoding.y, { title, axis: { format } });
    if (encoding.color && folds.size * parts.size === 1) encoding.color.legend = null;
    else if (encoding.color) encoding.color.legend = { columns: innerWidth < 600 ? 3 : 1 };
    if (encoding.tooltip) {
      encoding.tooltip = [{ field: "x", type: "quantitative", title: container.dataset.chart.replace(/s$/, "") },
        ...lines.map((line, n) => ({ field: `r${n}`, title: series(line), type: "quantitative", format: quantity.percent ? ".2%" : ".4~g" }))];
    }
  });
  const { encoding, mark } = spec.layer[0];
  if (byFold && parts.size > 1) {
    encoding.strokeDash.legend = { values: [...parts].filter((part) => part !== "") };
  } else {
    delete encoding.strokeDash;
  }
  mark.point = least <= 20;
  if (!mark.point) mark.strokeWidth = 1.5;
  return spec;
};
const setCurve = (panel) => {
  const container = panel.querySelector(".chart");
  const quantity = curves[container.dataset.chart][Number(panel.querySelector("select").value)];
  container.spec = curvesOf(container, quantity, document.getElementById("curve-fold")?.value ?? "");
  if (container.dataset.drawn) drawChart(container);
};
const setCurves = () => {
  const panels = [...document.querySelectorAll("#curves .columns > div")];
  panels.forEach(setCurve);
  return panels;
};

// -- confusion matrix
const matrices = readData("matrices");
const cells = readData("cells");
const matrixFold = () => document.getElementById("matrix-fold")?.value ?? "";
const showCell = (button, t, p) => {
  document.querySelectorAll("#matrix button").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
  const fold = matrixFold();
  const shown = cells.true.flatMap((label, i) => (
    label === t && cells.predicted[i] === p && (fold === "" || cells.fold[i] === Number(fold))
      ? [Object.fromEntries(Object.entries(cells).map(([key, column]) => [key, column[i]]))] : []));
  shown.sort((a, b) => (t === p ? a.p - b.p : b.p - a.p));
  const count = Number(button.dataset.count);
  const what = t === p ? `${classNames[t]}, recognised` : `true ${classNames[t]}, predicted ${classNames[p]}`;
  const images = shown.map((image) => {
    const figure = figureOf({ ...image, predicted: undefined });
    figure.className = t === p ? "right-image" : "wrong-image";
    const lines = [`label ${classNames[t]}`, `predicted ${classNames[p]}`, `p = ${shownPercent(image.p)}`];
    if (t !== p) lines.push(`p(label) = ${shownPercent(image.p_true)}`);
    lines.push(`no. ${image.row}`);
    figure.querySelector("figcaption").replaceChildren(...lines.flatMap((line, i) => (i ? [element("br"), line] : [line])));
    return figure;
  });
  const order = t === p ? "the least certain first" : "the most certain first";
  document.getElementById("cell").replaceChildren(
    element("h3", { textContent: `${what}: ${count.toLocaleString("en")}` }),
    element("p", { className: "faint", textContent: shown.length < count ? `${shown.length} of them, ${order}:` : `${order}:` }),
    element("div", { className: "images" }, ...images));
};
const drawMatrix = () => {
  const table = document.getElementById("matrix");
  if (table === null) return;
  const fold = matrixFold();
  const counts = fold === "" ? matrices.all : matrices.folds[fold];
  const long = classNames.some((name) => name.length > 3);
  const head = element("tr", {}, element("th", { textContent: long ? "" : "true" }),
    ...classNames.map((name) => element("th", { textContent: name, scope: "col", className: long ? "slanted" : "" })));
  const body = counts.map((row, t) => {
    const total = row.reduce((a, b) => a + b, 0);
    return element("tr", {}, element("th", { textContent: classNames[t], scope: "row", title: classNames[t] }), ...row.map((count, p) => {
      const strength = total ? (count / total) ** 0.45 : 0;
      const clickable = cells !== null && count > 0;
      const cell = element(clickable ? "button" : "span", { textContent: count, title: `true ${classNames[t]}, predicted ${classNames[p]}: ${count}` });
      if (count === 0) cell.className = "none";
      else {
        const colour = t === p ? "var(--accent)" : "var(--wrong)";
        cell.style.background = `color-mix(in srgb, ${colour} ${Math.round(12 + 78 * strength)}%, var(--card))`;
        if (strength > 0.55) cell.style.color = "var(--page)";
      }
      cell.dataset.count = count;
      if (clickable) {
        cell.type = "button";
        cell.classList.toggle("diagonal", t === p);
        cell.setAttribute("aria-pressed", "false");
        cell.addEventListener("click", () => showCell(cell, t, p));
      }
      return element("td", {}, cell);
    }));
  });
  table.replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
  document.getElementById("cell").replaceChildren();
  const mistakes = [...table.querySelectorAll("button:not(.diagonal)")];
  mistakes.sort((a, b) => b.dataset.count - a.dataset.count)[0]?.click(); // the commonest, to begin with
};

// -- configuration: keys and values that contain the text, with the groups they are in
const searchConfig = () => {
  const text = document.getElementById("config-search").value.trim().toLowerCase();
  const marked = document.getElementById("config-marked").checked;
  const visit = (item) => {
    const own = item.querySelector(":scope > .name, :scope > details > summary").textContent;
    const value = item.querySelector(":scope > code")?.textContent ?? "";
    const inside = [...item.querySelectorAll(":scope > details > ul > li")];
    const matches = `${item.dataset.key} ${own} ${value}`.toLowerCase().includes(text);
    const found = inside.map(visit).some(Boolean);
    const keep = found || (matches && (!marked || item.className !== "") && (inside.length === 0 || item.className !== ""));
    item.hidden = !keep;
    if (inside.length && (text !== "" || marked)) item.querySelector("details").open = found;
    return keep;
  };
  document.querySelectorAll("#config > ul > li").forEach(visit);
};

document.addEventListener("DOMContentLoaded", () => {
  setCurves().forEach((panel) => panel.querySelector("select").addEventListener("change", () => setCurve(panel)));
  document.getElementById("curve-fold")?.addEventListener("change", setCurves);
  drawMatrix();
  document.getElementById("matrix-fold")?.addEventListener("change", drawMatrix);
  fillImages();
  for (const id of ["config-search", "config-marked"]) document.getElementById(id)?.addEventListener("input", searchConfig);
});
