"use strict";
// The rows are in the page already; this adds filters and what lies behind a cell. The state is in
// the address, so a view can be sent to somebody: #q=vmrun&group=svm&outcome=fail,crash&diff=1&open=3:0
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const body = $("rows");
  const lines = [...body.querySelectorAll("tr[data-r]")];
  const chips = [...document.querySelectorAll(".chip input[name=outcome]")];
  const texts = data.rows.map((row) => {
    const words = [row.id, row.rule, row.spec];
    for (const cell of row.cells) {
      if (cell) words.push(cell.message, cell.expected, cell.got, cell.need, cell.known, cell.kind);
    }
    return words.filter(Boolean).join("\n").toLowerCase();
  });
  let open = null;

  const state = () => ({
    q: $("q").value.trim(),
    group: $("group").value,
    unit: $("unit").value,
    outcome: chips.filter((c) => c.checked).map((c) => c.value),
    diff: $("diff").checked,
  });

  function matches(s, row, i) {
    const words = s.q.toLowerCase().split(/\s+/).filter(Boolean);
    return words.every((w) => texts[i].includes(w))
      && (!s.group || row.groups.includes(s.group))
      && (!s.unit || row.unit === s.unit)
      && (!s.diff || row.change !== "same")
      && (!s.outcome.length || row.cells.some((c) => c && s.outcome.includes(c.status)));
  }

  function apply(remember) {
    const s = state();
    let shown = 0;
    lines.forEach((line) => {
      const i = Number(line.dataset.r);
      const yes = matches(s, data.rows[i], i);
      line.hidden = !yes;
      shown += yes;
      if (!yes && open && open.row === i) close();
    });
    $("count").textContent = `${shown} of ${lines.length} cases`;
    $("empty").hidden = shown > 0;
    if (remember) save(s);
  }

  function save(s) {
    const p = new URLSearchParams();
    if (s.q) p.set("q", s.q);
    if (s.group) p.set("group", s.group);
    if (s.unit) p.set("unit", s.unit);
    if (s.outcome.length) p.set("outcome", s.outcome.join(","));
    if (s.diff) p.set("diff", "1");
    if (open) p.set("open", `${open.row}:${open.column}`);
    const hash = p.toString();
    try {
      history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
    } catch {
      // A sandboxed viewer has no history; the page works without.
    }
  }

  function load() {
    const p = new URLSearchParams(location.hash.slice(1));
    $("q").value = p.get("q") || "";
    $("group").value = p.get("group") || "";
    $("unit").value = p.get("unit") || "";
    $("diff").checked = p.get("diff") === "1";
    const outcomes = (p.get("outcome") || "").split(",");
    chips.forEach((c) => { c.checked = outcomes.includes(c.value); });
    apply(false);
    close();
    const at = /^(\d+):(\d+)$/.exec(p.get("open") || "");
    const button = at && body.querySelector(`tr[data-r="${at[1]}"]:not([hidden]) button[data-c="${at[2]}"]`);
    if (button) {
      show(button);
      button.scrollIntoView({ block: "center" });
    }
  }

  function element(name, attributes, ...children) {
    const e = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
    e.append(...children);
    return e;
  }

  function close() {
    if (!open) return;
    open.button.setAttribute("aria-expanded", "false");
    open.button.removeAttribute("aria-controls");
    open.line.remove();
    open = null;
  }

  function copying(text) {
    const b = element("button", { type: "button", class: "copy" }, "copy");
    b.addEventListener("click", () => {
      const done = () => { b.textContent = "copied"; };
      const select = () => {
        const range = document.createRange();
        range.selectNodeContents(b.previousSibling);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        b.textContent = "selected";
      };
      if (navigator.clipboard && window.isSecureContext) navigator.clipboard.writeText(text).then(done, select);
      else select();
    });
    return b;
  }

  function panel(row, cell, column) {
    const list = element("dl", {});
    const add = (name, ...values) => {
      if (values.every((v) => v !== undefined && v !== "")) {
        list.append(element("dt", {}, name), element("dd", {}, ...values));
      }
    };
    const code = (name, text) => { if (text) add(name, element("code", {}, text)); };
    const block = (name, values) => {
      if (values && values.length) add(name, element("pre", { tabindex: "0" }, values.join("\n")));
    };
    const command = (name, text) => { if (text) add(name, element("code", {}, text), copying(text)); };
    add("rule", row.rule);
    add("known", cell.known);
    add("cause", cell.kind);
    add("needs", cell.need);
    add("message", cell.message);
    code("expected", cell.expected);
    code("got", cell.got);
    add("spec", row.spec);
    code("at", cell.at || row.at);
    block("attempts", cell.attempts);
    block("notes", cell.notes);
    block("details", cell.details);
    block("console", cell.console);
    if (cell.ms !== undefined) add("took", cell.ms < 1000 ? `${cell.ms} ms` : `${(cell.ms / 1000).toFixed(2)} s`);
    add("groups", row.groups.join(" "));
    code("log", cell.log);
    command("again", cell.repro);
    command("command", data.commands[cell.command]);
    const title = element("h3", {}, `${cell.status} on ${column.title}`);
    return element("div", { class: `panel ${cell.status}` }, title, list);
  }

  function show(button) {
    const line = button.closest("tr");
    const row = Number(line.dataset.r);
    const column = Number(button.dataset.c);
    const again = open && open.button === button;
    close();
    if (again) return;
    const inside = panel(data.rows[row], data.rows[row].cells[column], data.columns[column]);
    const td = element("td", { colspan: String(data.columns.length + 1) }, inside);
    const detail = element("tr", { class: "detail", id: "detail" }, td);
    line.after(detail);
    button.setAttribute("aria-expanded", "true");
    button.setAttribute("aria-controls", "detail");
    open = { row, column, button, line: detail };
  }

  body.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-c]");
    if (button) {
      show(button);
      save(state());
    }
  });
  body.addEventListener("keydown", (event) => {
    const button = event.target.closest("button[data-c]");
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (event.key === "Escape" && open) {
      const was = open.button;
      close();
      save(state());
      was.focus();
    } else if (button && step) {
      const wanted = `button[data-c="${button.dataset.c}"]`;
      let line = button.closest("tr")[step];
      while (line && (line.hidden || !line.querySelector(wanted))) line = line[step];
      if (line) {
        event.preventDefault();
        line.querySelector(wanted).focus();
      }
    }
  });
  document.querySelectorAll("button[data-group]").forEach((b) => b.addEventListener("click", () => {
    $("group").value = b.dataset.group;
    apply(true);
    $("filters").scrollIntoView();
  }));
  const form = $("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => apply(true));
  form.addEventListener("reset", () => setTimeout(() => apply(true)));
  addEventListener("hashchange", load);
  form.hidden = false;
  load();
  document.documentElement.dataset.ready = "1";
})();
