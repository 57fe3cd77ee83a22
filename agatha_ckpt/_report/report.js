// Sorts the table by the column whose heading is pressed; without it, it is by name.
for (const table of document.querySelectorAll("table.overview")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      // Figures begin with the largest, which is what one looks for.
      const first = heading.classList.contains("figure") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = before === first ? other : first;
      const sign = order === "ascending" ? 1 : -1;
      headings.forEach((each) => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", order);
      const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent;
      const compare = heading.classList.contains("figure")
        ? (a, b) => sign * (Number(key(a)) - Number(key(b)))
        : (a, b) => sign * key(a).localeCompare(key(b));
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(compare));
    });
  });
}
