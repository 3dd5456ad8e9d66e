"use strict";
(() => {
  const root = document.documentElement;

  const toggle = document.getElementById("theme");
  const themes = ["auto", "light", "dark"];
  const remembered = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const show = (theme) => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    toggle.textContent = `Theme: ${theme}`;
    try { localStorage.setItem("theme", theme); } catch { /* a file may have no storage */ }
  };
  show(themes.includes(remembered()) ? remembered() : "auto");
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    show(themes[(themes.indexOf(root.dataset.theme ?? "auto") + 1) % themes.length]);
  });

  const value = (row, column) => {
    const cell = row.cells[column];
    return "sort" in cell.dataset ? Number(cell.dataset.sort) : cell.textContent.trim();
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const numeric = "sort" in (table.tBodies[0].rows[0]?.cells[column].dataset ?? {});
        const first = numeric ? "descending" : "ascending";
        const second = numeric ? "ascending" : "descending";
        const order = head.ariaSort === first ? second : first;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => sign * compare(value(a, column), value(b, column)));
        table.tBodies[0].append(...rows);
      });
    });
  }

  const examples = [...document.querySelectorAll(".example")];
  if (examples.length > 1) {
    const picker = document.createElement("div");
    picker.className = "picker";
    picker.setAttribute("role", "group");
    picker.setAttribute("aria-label", "Pick a trace");
    const buttons = examples.map((example) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = example.dataset.label;
      button.addEventListener("click", () => pick(example));
      return button;
    });
    const pick = (chosen) => examples.forEach((example, index) => {
      example.hidden = example !== chosen;
      buttons[index].setAttribute("aria-pressed", String(example === chosen));
    });
    picker.append(...buttons);
    examples[0].parentElement.before(picker);
    pick(examples[0]);
  }
})();
