// Sort the table by the column whose heading is clicked.
for (const table of document.querySelectorAll("table.overview")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const isFigure = heading.classList.contains("figure");
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      // Figures begin with the largest.
      const first = isFigure ? "descending" : "ascending";
      const other = isFigure ? "ascending" : "descending";
      const order = heading.getAttribute("aria-sort") === first ? other : first;
      const sign = order === "ascending" ? 1 : -1;
      headings.forEach((each) => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", order);
      const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent;
      const compare = isFigure
        ? (a, b) => sign * (Number(key(a)) - Number(key(b)))
        : (a, b) => sign * key(a).localeCompare(key(b));
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(compare));
    });
  });
}
// Show only the checkpoints whose name and state contain all words of the search box.
for (const search of document.querySelectorAll(".search")) {
  const [input, output] = search.children;
  const all = document.querySelectorAll("[data-search]");
  const cards = document.querySelectorAll(".card");
  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const each of all) {
      const text = each.dataset.search.toLowerCase();
      each.toggleAttribute("data-filtered", !words.every((word) => text.includes(word)));
    }
    document.body.toggleAttribute("data-filtering", words.length > 0);
    for (const more of document.querySelectorAll("details.more")) {
      more.open = words.length > 0;
    }
    for (const graph of document.querySelectorAll(".graph")) {
      const { left, top } = graph.getBoundingClientRect();
      const node = graph.querySelector(".node:not([data-filtered])");
      const box = node?.getBoundingClientRect();
      if (box) graph.scrollBy(box.left - left - graph.clientWidth / 3, box.top - top - 16);
    }
    const count = [...cards].filter((card) => !("filtered" in card.dataset)).length;
    output.value = words.length ? `${count} of ${cards.length}` : "";
  };
  input.addEventListener("input", filter);
  search.hidden = false;
  filter(); // what the browser kept of the page before
}
