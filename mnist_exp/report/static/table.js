// Tables from data: views, sorting, a filter of words and conditions, rows drawn as they are needed.
"use strict";

const ROWS_AT_ONCE = 50;
const LONGEST_CELL = 90; // characters shown of a sentence before it is opened
const same = (a, b) => a === b || Math.abs(a - b) <= 1e-6 * Math.abs(b); // numbers are rounded
const COMPARE = {
  "=": same, "==": same, "!=": (a, b) => !same(a, b),
  "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b,
};
const tables = {};

const numberOf = (text) => {
  const percent = text.endsWith("%");
  const digits = percent ? text.slice(0, -1) : text;
  const number = digits.trim() === "" ? NaN : Number(digits);
  return Number.isNaN(number) ? null : percent ? number / 100 : number;
};
// what words are compared by; a filter's quotes hold its words together, so those of a cell are nothing
const unquoted = (text) => text.replaceAll('"', "");
const plain = (text) => unquoted(text).replace(/\s/g, "").toLowerCase();

// a column by its name, the last part of its key, or "accuracy" for "test accuracy"
const findColumn = (view, name) => {
  const wanted = name.toLowerCase();
  const keys = view.columns.map((column) => column.key.toLowerCase());
  const tries = [
    (key) => key === wanted, (key) => key.endsWith(`.${wanted}`), (key) => key === `test_${wanted}`,
    (key) => key === `held-out_${wanted}`, (key) => key === `${wanted}_accuracy`,
    (key) => key === `mean_${wanted}`,
  ];
  const found = tries.map((fits) => keys.findIndex(fits)).find((place) => place >= 0);
  return found === undefined ? null : view.columns[found];
};

// a test of row numbers for each word of the filter; what is no column is named in `problems`
const readFilter = (view, text) => {
  const problems = [];
  const tests = [];
  for (const [word] of text.matchAll(/(?:"[^"]*"?|[^\s"])+/g)) {
    const parts = /^([^\s=!<>"]+)(==|!=|<=|>=|=|<|>)(.*)$/s.exec(word);
    if (parts === null) {
      const wanted = unquoted(word).toLowerCase();
      tests.push((row) => searchText(view, row).includes(wanted));
      continue;
    }
    const [, name, sign] = parts;
    const wanted = unquoted(parts[3]);
    const column = findColumn(view, name);
    if (column === null) { problems.push(`no column ${name}`); continue; }
    if (wanted === "") continue; // still being typed
    tests.push(condition(column, sign, wanted));
  }
  return { tests, problems };
};
const condition = (column, sign, wanted) => {
  const number = numberOf(wanted);
  const compare = COMPARE[sign];
  const equality = sign.startsWith("=") || sign === "!=";
  return (row) => {
    const text = column.texts[row];
    if (plain(text) === "") return equality && compare("null", plain(wanted));
    const own = column.numbers?.[row] ?? numberOf(text);
    if (number !== null && own !== null) return compare(own, number);
    return equality && compare(plain(text), plain(wanted));
  };
};
const searchText = (view, row) => {
  view.search ??= [];
  view.search[row] ??= unquoted(view.columns.map((column) => column.texts[row]).join("\n")).toLowerCase();
  return view.search[row];
};

const sortedRows = (column, ascending, rows) => {
  const key = column.numbers ?? column.texts;
  const missing = (value) => value === "" || value === null;
  const order = column.numbers !== undefined
    ? (a, b) => a - b
    : (a, b) => a.localeCompare(b, undefined, { numeric: true });
  return [...rows].sort((a, b) => {
    const [x, y] = [key[a], key[b]];
    if (missing(x) || missing(y)) return missing(x) - missing(y);
    return ascending ? order(x, y) : -order(x, y);
  });
};

const drawCell = (column, row) => {
  const text = column.texts[row];
  const cell = element("td", { className: column.kind });
  const address = column.links?.[row];
  if (address) cell.append(element("a", { href: address, textContent: text }));
  else if (column.kind === "long" && text.length > LONGEST_CELL) {
    const opened = element("details");
    opened.append(element("summary", { textContent: `${text.slice(0, LONGEST_CELL)} …` }), text);
    cell.append(opened);
  } else cell.textContent = text;
  if (column.key === "status") cell.dataset.status = text;
  return cell;
};

class DataTable {
  constructor(box) {
    this.views = readData(box.dataset.table).views.filter((view) => view.columns.length > 0);
    this.count = element("output", { className: "faint" });
    this.input = element("input", {
      type: "search", placeholder: box.dataset.example, ariaLabel: "filter", spellcheck: false, autocomplete: "off",
    });
    this.input.addEventListener("input", () => this.refresh());
    this.buttons = this.views.map((view, number) => {
      const button = element("button", { type: "button", textContent: view.name });
      button.addEventListener("click", () => this.open(number));
      return button;
    });
    const controls = element("div", { className: "controls" });
    controls.append(this.input, ...(this.views.length > 1 ? this.buttons : []), this.count);
    this.scroll = element("div", { className: "wide scroll", tabIndex: 0 });
    this.table = element("table");
    this.end = element("div", { className: "end" });
    this.scroll.append(this.table, this.end);
    box.append(controls, this.scroll);
    new IntersectionObserver((seen) => { if (seen.some((entry) => entry.isIntersecting)) this.more(); },
      { root: this.scroll, rootMargin: "600px" }).observe(this.end);
    addEventListener("beforeprint", () => this.more(Infinity));
    this.open(0);
  }

  open(number) {
    this.view = this.views[number];
    this.buttons.forEach((button, n) => button.setAttribute("aria-pressed", n === number));
    const head = element("tr");
    this.view.columns.forEach((column) => {
      const header = element("th", { className: column.kind, tabIndex: 0, title: column.key, textContent: column.title });
      header.setAttribute("aria-sort", this.view.sort?.column === column ? this.view.sort.direction : "none");
      if (column.over) header.append(element("small", { textContent: ` ± std over ${column.over}` }));
      const sort = () => this.sort(column, header);
      header.addEventListener("click", sort);
      header.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
      head.append(header);
    });
    this.table.replaceChildren(element("thead"), element("tbody"));
    this.table.tHead.append(head);
    this.view.order ??= [...this.view.columns[0].texts.keys()];
    this.refresh();
  }

  sort(column, header) {
    const direction = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    this.table.querySelectorAll("th").forEach((th) => th.setAttribute("aria-sort", "none"));
    header.setAttribute("aria-sort", direction);
    this.view.sort = { column, direction };
    this.view.order = sortedRows(column, direction === "ascending", this.view.order);
    this.refresh();
  }

  refresh() {
    const { tests, problems } = readFilter(this.view, this.input.value);
    this.rows = this.view.order.filter((row) => tests.every((test) => test(row)));
    const all = this.view.order.length;
    const shown = this.rows.length === all ? `${all.toLocaleString("en")} rows` : `${this.rows.length.toLocaleString("en")} of ${all.toLocaleString("en")} rows`;
    this.count.textContent = problems.length ? `${problems.join(", ")}; columns are ${this.view.columns.map((column) => column.key).join(", ")}` : shown;
    this.count.classList.toggle("wrong", problems.length > 0);
    this.input.setAttribute("aria-invalid", problems.length > 0);
    this.table.tBodies[0].replaceChildren();
    this.drawn = 0;
    this.scroll.scrollTop = 0;
    this.more();
  }

  more(count = ROWS_AT_ONCE) {
    const rows = this.rows.slice(this.drawn, this.drawn + count).map((row) => {
      const line = element("tr");
      line.append(...this.view.columns.map((column) => drawCell(column, row)));
      return line;
    });
    this.drawn += rows.length;
    this.table.tBodies[0].append(...rows);
  }

  // what a click in a chart asks for: the rows of a point, in the view that has a row for each
  show(filter) {
    this.input.value = filter;
    this.open(0);
    this.scroll.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("[data-table]").forEach((box) => { tables[box.dataset.table] = new DataTable(box); });
});
document.addEventListener("drawn", (event) => {
  event.target.view.addEventListener("click", (_, item) => {
    const find = item?.datum?.find ?? item?.datum?.datum?.find;
    if (find) Object.values(tables)[0]?.show(find);
  });
});
