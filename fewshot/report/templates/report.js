"use strict";
// Shows the chosen pictures: over all tasks, task by task, and on a map. Names are set as text, never as markup.
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const STEP = 24, ROWS = 50, MOST_POINTS = 2000;
  const byId = (id) => document.getElementById(id);
  const answers = page.answers.map(([task, picture, name, label, truth, sure, x, y, ownX, ownY], order) => (
    { task, picture, name, label, truth, sure, x, y, ownX, ownY, order, answered: sure >= 0,
      right: truth < 0 ? null : truth === label }));
  const supports = page.supports.map(([task, picture, name, label, misnamed, ownX, ownY]) => (
    { task, picture, name, label, misnamed, ownX, ownY, support: true, right: null }));
  let pictures = null;

  function uri(number) {
    pictures ??= JSON.parse(byId("pictures").textContent);
    return page.prefix + pictures[number];
  }

  function percent(value, digits = 1) {
    return value === null || value < 0 ? "–" : `${(100 * value).toFixed(digits)}\u00a0%`;
  }

  function count(n, one, many = `${one}s`) {
    return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
  }

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  function swatch(task, label) {
    const place = task.classes.indexOf(label);
    return make("span", { class: `swatch s${place < 0 ? "x" : place % 8}`, "aria-hidden": "true" });
  }

  // ---- one picture ----

  function frame(entry, alt) {
    if (entry.picture < 0) return make("div", { class: "picture missing" }, "cannot be read");
    return make("div", { class: "picture" },
      make("img", { src: uri(entry.picture), alt, width: 96, height: 96, decoding: "async" }));
  }

  function told(entry) {
    if (entry.support) return `Support picture ${entry.name} of ${page.classes[entry.label]}`;
    const said = entry.answered ? `named ${page.classes[entry.label]}, confidence ${percent(entry.sure)}` : "without an answer";
    const judged = entry.right === null ? "" : entry.right ? ", right" : `, wrong: it is ${page.classes[entry.truth]}`;
    return `${entry.name}: ${said}${judged}`;
  }

  function card(entry, linked) {
    const task = page.tasks[entry.task];
    const state = entry.right === null ? "" : entry.right ? " right-one" : " wrong";
    const box = frame(entry, `Query ${told(entry)}`);
    if (entry.right !== null) box.append(make("span", { class: "mark", "aria-hidden": "true" }, entry.right ? "✓" : "✗"));
    const caption = make("figcaption");
    if (entry.answered) {
      const bar = make("i");
      bar.style.width = `${100 * Math.min(1, entry.sure)}%`;
      caption.append(
        make("span", { class: "label" }, linked ? null : swatch(task, entry.label),
          make("span", { class: "name clamp" }, page.classes[entry.label])),
        make("span", { class: "meter", "aria-hidden": "true" }, bar),
        make("span", { class: "number" }, percent(entry.sure)));
    } else {
      caption.append(make("span", { class: "label soft" }, "no answer"));
    }
    if (entry.right === false) caption.append(make("div", { class: "truth name" }, `is ${page.classes[entry.truth]}`));
    if (linked && task.listed) {
      caption.append(make("a", { class: "where name", href: `#task-${entry.task}` }, task.name));
    } else if (linked) {
      caption.append(make("span", { class: "where soft name" }, task.name));
    }
    return make("figure", { class: `query${state}`, title: told(entry) }, box, caption);
  }

  // ---- over all tasks: the confident mistakes, the least sure ----

  const chooser = byId("class"), order = byId("order");
  const occurring = new Set(page.tasks.flatMap((task) => task.classes));
  for (const entry of answers) { occurring.add(entry.label); if (entry.truth >= 0) occurring.add(entry.truth); }
  [...occurring].sort((a, b) => page.classes[a].localeCompare(page.classes[b], "en", { numeric: true }))
    .forEach((label) => chooser.append(make("option", { value: label }, page.classes[label])));

  function chosenClass() {
    return chooser.value === "" ? null : Number(chooser.value);
  }

  function isOf(entry, label) {
    return label === null || entry.label === label || entry.truth === label;
  }

  const surest = (a, b) => b.sure - a.sure || a.order - b.order;
  const unsure = (a, b) => a.sure - b.sure || a.order - b.order;
  let shown = STEP;

  function drawGallery() {
    const label = chosenClass();
    const mistakes = order.value === "mistakes";
    const seen = new Set();  // a picture that many episodes ask about is shown once
    const found = answers.filter((entry) => entry.answered && (!mistakes || entry.right === false) && isOf(entry, label))
      .sort(mistakes ? surest : unsure)
      .filter((entry) => entry.picture < 0 || (!seen.has(entry.picture) && seen.add(entry.picture)));
    byId("gallery").replaceChildren(...found.slice(0, shown).map((entry) => card(entry, true)));
    const kind = mistakes ? "mistake" : "answer";
    const all = Number(byId("first").dataset[mistakes ? "mistakes" : "answers"]);
    const about = label === null ? "" : ` with ${page.classes[label]} as truth or answer`;
    byId("gallery-said").textContent = found.length === 0 ? `No ${kind}s${about} among the pictures in this file.`
      : `${Math.min(shown, found.length)} of ${count(found.length, "picture")}${about} shown; there are ${count(all, kind)} in all.`;
    byId("more").hidden = found.length <= shown;
  }

  byId("more").addEventListener("click", () => { shown += 2 * STEP; drawGallery(); });
  order.addEventListener("change", () => { shown = STEP; drawGallery(); });

  // ---- the table of tasks ----

  const body = document.querySelector("table.tasks tbody");
  const rows = [...body.rows];
  const wanted = byId("task-name");
  let shownRows = ROWS;

  function matching() {
    const label = chosenClass(), text = wanted.value.trim().toLowerCase();
    return [...body.rows].filter((row) => {
      const task = page.tasks[Number(row.dataset.task)];
      return (label === null || task.classes.includes(label)) && task.name.toLowerCase().includes(text);
    });
  }

  function filterTasks() {
    const found = matching(), kept = new Set(found.slice(0, shownRows));
    for (const row of rows) row.hidden = !kept.has(row);
    byId("tasks-said").textContent = `${Math.min(shownRows, found.length).toLocaleString("en")} of ` +
      `${found.length.toLocaleString("en")}${found.length < rows.length ? " that match" : ""} shown`;
    byId("more-tasks").hidden = found.length <= shownRows;
  }

  function sortTasks(heading) {
    const falling = heading.getAttribute("aria-sort") === "ascending";
    const column = heading.cellIndex;
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.sort;
    const natural = new Intl.Collator("en", { numeric: true });
    const compare = column === 0 ? (a, b) => natural.compare(key(a), key(b)) : (a, b) => Number(key(a)) - Number(key(b));
    const unknown = (row) => key(row) === "";
    rows.sort((a, b) => unknown(a) - unknown(b) || (falling ? compare(b, a) : compare(a, b)));
    body.append(...rows);
    filterTasks();
  }

  for (const button of document.querySelectorAll("table.tasks thead button")) {
    button.addEventListener("click", () => sortTasks(button.closest("th")));
  }
  byId("more-tasks").addEventListener("click", () => { shownRows += 4 * ROWS; filterTasks(); });
  wanted.addEventListener("input", () => { shownRows = ROWS; filterTasks(); });

  // ---- one task ----

  const view = byId("task");

  function supportOf(task, number) {
    const own = supports.filter((entry) => entry.task === number);
    return make("div", { class: "supports" }, ...task.classes.map((label, place) => {
      const entries = own.filter((entry) => entry.label === label);
      const left = task.shots[place] - entries.length;
      return make("div", {},
        make("h4", {}, swatch(task, label), make("span", { class: "name" }, page.classes[label])),
        make("div", { class: "strip" },
          ...entries.map((entry) => make("figure", { title: entry.name }, frame(entry, told(entry)),
            entry.misnamed < 0 ? null
              : make("figcaption", { class: "misnamed name" }, `looks like ${page.classes[entry.misnamed]}`))),
          left ? make("span", { class: "note" }, entries.length ? `+ ${left} more` : `${count(left, "picture")} left out`) : null));
    }));
  }

  function queriesOf(task, number) {
    const mistake = (entry) => entry.right === false && entry.answered;
    const own = answers.filter((entry) => entry.task === number)
      .sort((a, b) => mistake(b) - mistake(a) || (mistake(a) ? surest(a, b) : unsure(a, b)));
    const left = task.queries - own.length;
    const shownWrong = own.filter((entry) => entry.right === false).length;
    const wrong = task.wrong === null ? "" : `, ${task.wrong - shownWrong || "none"} of them wrong`;
    return [make("div", { class: "grid" }, ...own.map((entry) => card(entry, false))),
      left ? make("p", { class: "note left-out" }, `${count(left, "query", "queries")} left out, to keep this file small${wrong}.`) : null];
  }

  function pairsOf(task) {
    if (!task.pairs.length) return [];
    if (!task.whole) {
      const said = task.pairs.map(([truth, answer, n]) => `${page.classes[truth]} named ${page.classes[answer]} × ${n}`);
      return [make("h3", {}, "Most frequent mistakes"), make("p", { class: "name" }, said.join("; "))];
    }
    const truths = [...new Set([...task.classes, ...task.pairs.map(([truth]) => truth)])];
    const given = [...new Set([...task.classes, ...task.pairs.map(([, answer]) => answer)])];
    const counts = new Map(task.pairs.map(([truth, answer, n]) => [`${truth} ${answer}`, n]));
    const cell = (truth, answer) => {
      const n = counts.get(`${truth} ${answer}`) ?? 0;
      return make("td", { class: n ? (truth === answer ? "right-answer" : "wrong-answer") : "none" }, n ? String(n) : "·");
    };
    const head = make("tr", {}, make("th", {}, "truth ↓ \u00a0 answer →"),
      ...given.map((answer) => make("th", { scope: "col", class: "name" }, page.classes[answer])));
    const lines = truths.map((truth) => make("tr", {}, make("th", { scope: "row", class: "name" }, page.classes[truth]),
      ...given.map((answer) => cell(truth, answer))));
    return [make("h3", {}, "Confusion matrix"),
      make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Confusion matrix of this task" },
        make("table", { class: "matrix" }, make("thead", {}, head), make("tbody", {}, ...lines)))];
  }

  function step(number, by) {
    const places = matching().map((row) => Number(row.dataset.task));
    const next = places[places.indexOf(number) + by];
    return make("button", { type: "button", disabled: next === undefined, "data-go": next === undefined ? "" : `#task-${next}` },
      by < 0 ? "← previous" : "next →");
  }

  function drawTask(number) {
    const task = page.tasks[number];
    const facts = [`${count(task.classes.length, "class", "classes")}, ${count(task.queries, "query", "queries")}`,
      `confidence ${percent(task.confidence)}`];
    if (task.estimate) facts.push(`estimate ${percent(task.estimate[0], 0)} (${task.estimate[1]} of ${task.estimate[2]} support pictures named rightly by the others)`);
    if (task.accuracy !== null) facts.push(`accuracy ${percent(task.accuracy)}`);
    const map = make("div", { class: "map" });
    view.replaceChildren(
      make("div", { class: "bar-of-task" }, make("h2", { class: "name", tabindex: "-1" }, task.name), step(number, -1), step(number, 1),
        make("button", { type: "button", "data-go": "#tasks" }, "all tasks")),
      make("p", { class: "soft" }, facts.join(" · ")),
      make("h3", {}, "Support"),
      task.classes.length ? supportOf(task, number) : make("p", {}, "No class has a picture: nothing can be answered."),
      make("h3", {}, "Queries"), ...queriesOf(task, number).filter((part) => part !== null), ...pairsOf(task),
      make("h3", {}, "Map"), map);
    const points = [...supports, ...answers].filter((entry) => entry.task === number && entry.ownX >= 0);
    drawMap(map, points, (entry) => [entry.ownX, entry.ownY], (entry) => task.classes.indexOf(entry.label),
      `Map of ${count(points.length, "picture")} of ${task.name}`);
    view.hidden = false;
    view.querySelector("h2").focus({ preventScroll: true });
    view.scrollIntoView({ block: "start" });
  }

  view.addEventListener("click", (event) => {
    const place = event.target.dataset.go;
    if (place) location.hash = place;
  });

  function follow() {
    const found = /^#task-(\d+)$/.exec(location.hash);
    if (found && page.tasks[Number(found[1])]?.listed) {
      drawTask(Number(found[1]));
    } else if (!view.hidden) {
      view.hidden = true;
      byId("tasks").scrollIntoView({ block: "start" });
    }
  }

  // ---- a map ----

  function point(entry, [x, y], colour, faint, size) {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
    const top = 1000 - y;  // upwards
    const kind = entry.support ? "support" : entry.right === false ? "wrong" : "query";
    const half = 1.2 * size;
    const drawn = { support: `M${x - half} ${top - half}h${2 * half}v${2 * half}h${-2 * half}z`,
      wrong: `M${x - half} ${top - half}l${2 * half} ${2 * half}m0 ${-2 * half}l${-2 * half} ${2 * half}`,
      query: `M${x - size} ${top}a${size} ${size} 0 1 0 ${2 * size} 0a${size} ${size} 0 1 0 ${-2 * size} 0` };
    shape.setAttribute("d", drawn[kind]);
    shape.setAttribute("class", `${kind} m${colour < 0 ? "x" : colour % 8}${faint ? " faint" : ""}`);
    return shape;
  }

  function drawMap(box, entries, placeOf, colourOf, label, isFaint = () => false) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const [key, value] of Object.entries({ viewBox: "-30 -30 1060 1060", tabindex: "0", role: "application",
      "aria-label": `${label}. The arrow keys go from picture to picture.` })) svg.setAttribute(key, value);
    // What to look at is drawn last, and so on top.
    const weight = (entry) => (isFaint(entry) ? 0 : entry.right === false ? 2 : 1);
    const drawn = entries.slice(0, MOST_POINTS).sort((a, b) => weight(a) - weight(b));
    const size = drawn.length > 500 ? 6 : 10;
    svg.append(...drawn.map((entry) => point(entry, placeOf(entry), colourOf(entry), isFaint(entry), size)));
    const tip = make("div", { class: "tip", role: "status" });
    const hint = "A picture shows here when you point at it.";
    tip.append(make("p", { class: "note" }, hint));
    let current = -1;
    const show = (index) => {
      if (index === current || index < 0) return;
      svg.children[current]?.classList.remove("current");
      current = index;
      svg.children[index].classList.add("current");
      const entry = drawn[index];
      tip.replaceChildren(frame(entry, ""), make("p", { class: "name" }, told(entry)));
    };
    svg.addEventListener("pointermove", (event) => {
      const inside = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      let best = -1, nearest = 45 ** 2;
      drawn.forEach((entry, index) => {
        const [x, y] = placeOf(entry);
        const far = (x - inside.x) ** 2 + (1000 - y - inside.y) ** 2;
        if (far < nearest) { nearest = far; best = index; }
      });
      show(best);
    });
    svg.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (by === undefined || !drawn.length) return;
      event.preventDefault();
      show((current + by + drawn.length) % drawn.length);
    });
    box.replaceChildren(svg, tip);
  }

  const together = answers.filter((entry) => entry.x >= 0);

  function drawWhole() {
    const label = chosenClass();
    const faint = label === null ? () => false : (entry) => !isOf(entry, label);
    drawMap(byId("map"), together, (entry) => [entry.x, entry.y], (entry) => (entry.truth < 0 ? entry.label : entry.truth),
      `Map of ${count(Math.min(together.length, MOST_POINTS), "query picture")} of all tasks`, faint);
  }

  // Far down the page, and not needed before somebody comes near.
  let near = false;
  new IntersectionObserver((seen, observer) => {
    if (!seen.some((entry) => entry.isIntersecting)) return;
    near = true;
    observer.disconnect();
    drawWhole();
  }, { rootMargin: "400px" }).observe(byId("map"));

  chooser.addEventListener("change", () => {
    shown = STEP;
    shownRows = ROWS;
    drawGallery();
    filterTasks();
    if (near) drawWhole();
  });
  window.addEventListener("hashchange", follow);
  document.documentElement.classList.add("scripted");
  drawGallery();
  filterTasks();
  follow();
})();
