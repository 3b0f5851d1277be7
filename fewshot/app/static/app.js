"use strict";
// The page of `fewshot app`: shows what the server holds, and sends every change there. Names are set as text, never as markup.
(() => {
  const byId = (id) => document.getElementById(id);
  const TO_NAME = "";  // the place of pictures that are to be named; a class's name is never empty
  let state = null;
  let chosen = new Set();

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  function count(n, one, many = `${one}s`) {
    return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
  }

  // ---- talking to the server ----

  async function ask(path, options = {}) {
    let answer;
    try {
      answer = await fetch(path, { ...options, headers: { "x-fewshot": "1" } });
    } catch {
      throw new Error("The server does not answer: is 'fewshot app' still running?");
    }
    const kind = answer.headers.get("content-type") ?? "";
    const found = kind.startsWith("application/json") ? await answer.json() : { error: await answer.text() };
    if (!answer.ok) throw new Error(found.error || `The server answered ${answer.status}.`);
    return found;
  }

  const post = (path, value) => ask(path, { method: "POST", body: JSON.stringify(value) });

  function fail(message) {
    byId("error-text").textContent = message;
    byId("error").hidden = false;
    byId("error").scrollIntoView({ block: "nearest" });
  }

  // One thing at a time: every control is locked while it goes on.
  let working = false;

  async function work(what, action) {
    if (working) return;
    working = true;
    const focused = document.activeElement?.id;
    byId("error").hidden = true;
    byId("controls").disabled = true;
    for (const control of byId("chosen").querySelectorAll("button, select")) control.disabled = true;
    document.body.setAttribute("aria-busy", "true");
    byId("status").textContent = what;
    try {
      const said = await action();
      byId("status").textContent = said ?? "";
    } catch (error) {
      byId("status").textContent = "";
      fail(error.message);
    } finally {
      working = false;
      byId("controls").disabled = false;
      for (const control of byId("chosen").querySelectorAll("button, select")) control.disabled = false;
      document.body.removeAttribute("aria-busy");
      if (focused) byId(focused)?.focus();
    }
  }

  function change(what, value, said) {
    return work(what, async () => {
      draw(await post("/api/edit", value));
      return said;
    });
  }

  function upload(files, place) {
    const list = [...files];
    if (!list.length) return undefined;
    return work(`${count(list.length, "picture")} on the way …`, async () => {
      const refused = [], broken = [];
      let done = 0;
      for (const file of list) {
        const where = new URLSearchParams({ name: file.name });
        if (place !== TO_NAME) where.set("class", place);
        try {
          const found = await ask(`/api/upload?${where}`, { method: "PUT", body: file });
          if (found.problem) broken.push(`${found.name} cannot be read (${found.problem})`);
        } catch (error) {
          refused.push(`${file.name}: ${error.message}`);
        }
        done += 1;
        byId("status").textContent = `${done} of ${count(list.length, "picture")} uploaded`;
      }
      draw(await ask("/api/state"));
      if (refused.length || broken.length) fail([...refused, ...broken].join("\n"));
      return `${count(list.length - refused.length, "picture")} added`;
    });
  }

  // ---- pictures, and choosing them ----

  function image(picture, alt) {
    if (picture.problem) return make("span", { class: "missing" }, "cannot be read");
    return make("img", { src: `/picture/${picture.id}`, alt, loading: "lazy", draggable: "false" });
  }

  function tile(picture, place) {
    const said = picture.problem ? `${picture.name}, cannot be read: ${picture.problem}` : picture.name;
    return make("button", { type: "button", class: "tile", "aria-pressed": String(chosen.has(picture.id)), title: said, draggable: "true",
      "aria-label": said, "data-id": picture.id, onclick: (event) => choose(picture.id, event.currentTarget),
      ondragstart: (event) => {
        const ids = chosen.has(picture.id) ? [...chosen] : [picture.id];
        event.dataTransfer.setData("application/x-fewshot", JSON.stringify(ids));
        event.dataTransfer.effectAllowed = "move";
      } }, image(picture, ""), make("span", {}, picture.name));
  }

  function choose(id, button) {
    if (chosen.has(id)) chosen.delete(id); else chosen.add(id);
    button.setAttribute("aria-pressed", String(chosen.has(id)));
    drawChosen();
  }

  function drawChosen() {
    const fresh = byId("chosen").hidden;
    byId("chosen").hidden = chosen.size === 0;
    byId("chosen-count").textContent = `${count(chosen.size, "picture")} chosen`;
    const target = byId("target"), before = target.value;
    target.replaceChildren(...state.classes.map((entry) => make("option", { value: entry.name }, entry.name)),
      make("option", { value: TO_NAME }, "pictures to name"));
    if (!fresh && [...target.options].some((option) => option.value === before)) target.value = before;
  }

  function moveTo(ids, place) {
    chosen = new Set();
    return change("moving …", { do: "move", ids, class: place === TO_NAME ? null : place }, `${count(ids.length, "picture")} moved`);
  }

  // What is dropped: pictures of the page are moved, files are uploaded.
  function takesDrops(element, place) {
    const over = (event) => { event.preventDefault(); element.classList.add("over"); };
    element.addEventListener("dragover", over);
    element.addEventListener("dragleave", () => element.classList.remove("over"));
    element.addEventListener("drop", (event) => {
      event.preventDefault();
      element.classList.remove("over");
      const ids = event.dataTransfer.getData("application/x-fewshot");
      if (ids) moveTo(JSON.parse(ids), place);
      else upload(event.dataTransfer.files, place);
    });
    return element;
  }

  // ---- drawing ----

  function classCard(entry) {
    const broken = entry.pictures.filter((picture) => picture.problem).length;
    const said = count(entry.pictures.length, "picture") + (broken ? `, ${broken} cannot be read` : "");
    const title = make("h3", {}, entry.name);
    const head = make("div", { class: "headed" }, make("div", {}, title, make("span", { class: "note" }, said)),
      make("div", { class: "buttons" },
        make("label", { class: "file" }, "Add pictures", make("input", { type: "file", multiple: true,
          "aria-label": `Add pictures to ${entry.name}`, onchange: (event) => upload(event.target.files, entry.name) })),
        make("button", { type: "button", "aria-label": `Rename ${entry.name}`, onclick: () => rename(entry, head) }, "Rename"),
        make("button", { type: "button", "aria-label": `Remove class ${entry.name}`,
          onclick: () => change("removing …", { do: "remove-class", class: entry.name }, `${entry.name} removed`) }, "Remove")));
    return takesDrops(make("div", { class: "class", "data-class": entry.name }, head,
      make("div", { class: "tiles" }, ...entry.pictures.map((picture) => tile(picture, entry.name)))), entry.name);
  }

  function rename(entry, head) {
    const field = make("input", { value: entry.name, "aria-label": `New name of ${entry.name}`, maxlength: "200" });
    const form = make("form", { class: "line", onsubmit: (event) => {
      event.preventDefault();
      change("renaming …", { do: "rename-class", class: entry.name, name: field.value }, "renamed");
    } }, field, make("button", {}, "Keep"), make("button", { type: "button", onclick: () => draw(state) }, "Leave as it is"));
    head.replaceChildren(form);
    field.focus();
    field.select();
  }

  function answerCard(answer, byNumber) {
    const picture = byNumber.get(answer.id) ?? { id: answer.id, name: answer.name, problem: "removed" };
    const said = make("figcaption");
    if (answer.label) {
      const bar = make("i");
      bar.style.width = `${100 * Math.min(1, answer.confidence)}%`;
      said.append(make("span", { class: "label" }, answer.label), make("span", { class: "confidence" }, `${(100 * answer.confidence).toFixed(1)} %`),
        make("span", { class: "meter", "aria-hidden": "true" }, bar));
    } else {
      said.append(make("span", { class: "label" }, "no answer"));
    }
    said.append(make("span", { class: "file-name" }, answer.name));
    const near = answer.nearest.filter(([id]) => byNumber.has(id)).map(([id, cosine]) => {
      const place = state.classes.find((entry) => entry.pictures.some((other) => other.id === id));
      return make("figure", {}, image(byNumber.get(id), `Near: ${byNumber.get(id).name}`),
        make("figcaption", {}, `${place ? place.name : "moved"} ${cosine.toFixed(2)}`));
    });
    return make("figure", { class: "answer", "data-id": answer.id }, picture.problem === "removed" ? make("span", { class: "missing" }, "removed")
      : image(picture, picture.name), said,
      near.length ? make("div", { class: "near" }, make("span", {}, "nearest:"), ...near) : null);
  }

  function drawAnswers() {
    const named = state.named;
    byId("answers-card").hidden = named === null;
    if (named === null) return;
    const byNumber = new Map([...state.classes.flatMap((entry) => entry.pictures), ...state.queries].map((p) => [p.id, p]));
    const answers = [...named.answers];
    if (byId("order").value === "unsure") answers.sort((a, b) => (a.confidence ?? -1) - (b.confidence ?? -1));
    byId("answers").replaceChildren(...answers.map((answer) => answerCard(answer, byNumber)));
    byId("stale").hidden = named.changes === state.changes;
    byId("warnings").hidden = named.warnings.length === 0;
    byId("warnings").replaceChildren(...named.warnings.map((warning) => make("li", {}, warning)));
  }

  function draw(found) {
    const first = state === null;
    state = found;
    const all = new Set([...state.classes.flatMap((entry) => entry.pictures), ...state.queries].map((picture) => picture.id));
    chosen = new Set([...chosen].filter((id) => all.has(id)));
    if (first) {
      byId("classifier").replaceChildren(...state.classifiers.map((name) => make("option", { value: name }, name)));
      byId("classifier").value = state.classifier;
    }
    byId("heading").textContent = state.heading;
    byId("disk").hidden = !state.disk;
    byId("classes").replaceChildren(...state.classes.map(classCard));
    byId("queries").replaceChildren(...state.queries.map((picture) => tile(picture, TO_NAME)));
    drawChosen();
    drawAnswers();
  }

  // ---- what the buttons do ----

  byId("add-class").addEventListener("submit", async (event) => {
    event.preventDefault();
    const name = byId("class-name").value;
    await change("adding …", { do: "add-class", name }, `class ${name.trim()} added: now its pictures`);
    if (byId("error").hidden) byId("class-name").value = "";
  });
  byId("add-queries").addEventListener("change", async (event) => {
    await upload(event.target.files, TO_NAME);
    event.target.value = "";
  });
  takesDrops(byId("queries"), TO_NAME);
  byId("example").addEventListener("click", () => change("drawing …", { do: "example" }, "an example: now name them"));
  byId("clear").addEventListener("click", () => change("clearing …", { do: "clear" }, "all removed"));
  byId("move").addEventListener("click", () => moveTo([...chosen], byId("target").value));
  byId("remove").addEventListener("click", () => {
    const ids = [...chosen];
    change("removing …", { do: "remove", ids }, `${count(ids.length, "picture")} removed`);
  });
  byId("none").addEventListener("click", () => { chosen = new Set(); draw(state); });
  byId("order").addEventListener("change", drawAnswers);
  byId("error-close").addEventListener("click", () => { byId("error").hidden = true; });

  function load(task) {
    return work("reading the folder …", async () => {
      const found = await post("/api/load", { path: byId("load-path").value, task });
      byId("tasks").hidden = found.tasks.length === 0;
      if (found.tasks.length) {
        byId("load-task").replaceChildren(...found.tasks.map((name) => make("option", { value: name }, name)));
        return `${count(found.tasks.length, "task")} there: choose one`;
      }
      draw(found);
      return `${count(found.classes.length, "class", "classes")} and ${count(found.queries.length, "picture")} to name loaded`;
    });
  }

  byId("load").addEventListener("submit", (event) => { event.preventDefault(); load(null); });
  byId("load-one").addEventListener("click", () => load(byId("load-task").value));
  byId("export").addEventListener("submit", (event) => {
    event.preventDefault();
    work("writing …", async () => {
      const found = await post("/api/export", { path: byId("export-path").value });
      return `written: ${found.written}`;
    });
  });

  byId("name").addEventListener("click", () => work("looking at the pictures …", async () => {
    const watch = setInterval(async () => {
      try {
        const { done, total } = await ask("/api/progress");
        if (working && total) byId("status").textContent = `${done} of ${count(total, "picture")} looked at`;
      } catch { /* the answer itself will tell */ }
    }, 700);
    try {
      draw(await post("/api/name", { classifier: byId("classifier").value }));
    } finally {
      clearInterval(watch);
    }
    byId("answers-card").scrollIntoView({ block: "start" });
    const left = state.named.answers.filter((answer) => !answer.label).length;
    return `${count(state.named.answers.length - left, "picture")} named` + (left ? `, ${left} without an answer` : "");
  }));

  work("", async () => { draw(await ask("/api/state")); });
})();
