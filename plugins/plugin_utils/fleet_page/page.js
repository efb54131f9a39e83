/*
Copyright (c) xen.virtio contributors
GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later
*/
"use strict";
(() => {
  const report = JSON.parse(document.getElementById("report").textContent);
  const STATES = ["error", "warning", "unknown", "ok"];
  const COUNTED = { error: "with errors", warning: "with warnings", unknown: "not read", ok: "in order" };
  const WORDS = { error: "error", warning: "warning", unknown: "unknown", ok: "ok" };
  const MANY = 40; // hosts from which on the map draws small
  const at = (id) => document.getElementById(id);
  const many = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;

  // ---- nodes: every text goes through here, and none is ever read as HTML ----

  // What may be in it was written by guests: no control character, nothing that turns the direction, no endless line.
  const ODD = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;
  const shown = (value, limit = 600) => {
    const text = String(value);
    const cut = text.length > limit ? `${text.slice(0, limit - 1)}…` : text;
    return cut.replace(ODD, (odd) => `\\u{${odd.codePointAt(0).toString(16)}}`);
  };
  const fill = (node, attributes, children) => {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (typeof value === "function") node.addEventListener(name, value);
      else node.setAttribute(name, value === true ? "" : value);
    }
    for (const child of children.flat()) {
      if (child === null || child === undefined || child === false) continue;
      node.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
    return node;
  };
  const el = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
  const svg = (name, attributes, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
  const word = (value, name = "span", kind = "") => el(name, { class: `word ${kind}` }, shown(value));
  const unseen = (text) => el("span", { class: "unseen" }, text);

  // Shape as well as colour tells a state.
  const SHAPES = {
    ok: [["circle", { cx: 8, cy: 8, r: 6.4, fill: "none", stroke: "currentColor", "stroke-width": 1.6 }],
      ["path", { d: "M5 8.3l2.1 2.1L11 6", fill: "none", stroke: "currentColor", "stroke-width": 1.8 }]],
    warning: [["path", { d: "M8 1.5l7 12.6H1z", fill: "currentColor" }],
      ["path", { d: "M8 6v3.6M8 11v1.6", stroke: "var(--panel)", "stroke-width": 1.8 }]],
    error: [["path", { d: "M5 .8h6L15.2 5v6L11 15.2H5L.8 11V5z", fill: "currentColor" }],
      ["path", { d: "M5.2 5.2l5.6 5.6M10.8 5.2l-5.6 5.6", stroke: "var(--panel)", "stroke-width": 1.9 }]],
    unknown: [["circle", { cx: 8, cy: 8, r: 6.4, fill: "none", stroke: "currentColor", "stroke-width": 1.6, "stroke-dasharray": "2.6 2" }],
      ["path", { d: "M6 6.4a2 2 0 1 1 2.6 1.9c-.5.2-.6.5-.6 1.1M8 11v1.4", fill: "none", stroke: "currentColor", "stroke-width": 1.5 }]],
  };
  const icon = (state) =>
    svg("svg", { class: `icon ${state}`, viewBox: "0 0 16 16", "aria-hidden": "true" },
      SHAPES[state].map(([name, attributes]) => svg(name, attributes)));

  // ---- what is searched ----

  const hosts = report.hosts.map((host, index) => {
    const disks = host.domains.flatMap((domain) => domain.disks);
    const standing = host.findings.filter((one) => one.accepted === null);
    const haystack = [
      host.name, host.xen.release, host.xen.arch, host.error,
      ...host.domains.map((one) => one.name), ...host.backends.map((one) => one.name),
      ...disks.map((one) => `${one.vdev} ${one.target}`),
      ...host.findings.map((one) => `${one.code} ${one.message}`),
    ].join("\n").toLowerCase();
    return { host, index, disks, standing, haystack, node: null, tile: null, built: false };
  });
  const state = { text: "", states: new Set(STATES), code: "" };
  const fits = (one) =>
    state.states.has(one.host.status) &&
    (!state.code || one.host.findings.some((finding) => finding.code === state.code)) &&
    state.text.split(/\s+/).every((part) => one.haystack.includes(part));

  // ---- at a glance ----

  const summary = report.summary;
  const glance = () => {
    at("title").textContent = document.title = shown(report.title, 120);
    at("when").textContent = `Looked at ${shown(report.generated, 60)}`;
    const count = summary.hosts;
    const bad = count.error + count.warning;
    const all = count.total === 1 ? "The only host is" : `All ${count.total} hosts are`;
    const away = count.unknown ? ` ${many(count.unknown, "host")} could not be read.` : "";
    let verdict = `${all} in order.`;
    if (!count.total) verdict = "No host was looked at.";
    else if (bad) {
      verdict = `${bad} of ${many(count.total, "host")} ${bad === 1 ? "needs" : "need"} attention: `
        + `${many(summary.findings.error, "error")}, ${many(summary.findings.warning, "warning")}.${away}`;
    } else if (count.unknown) verdict = `${count.ok ? `${count.ok} of ${many(count.total, "host")} ${count.ok === 1 ? "is" : "are"} in order.` : ""}${away}`.trim();
    at("verdict").append(verdict);
    for (const name of STATES.filter((one) => count[one])) {
      const part = el("span", { class: name });
      part.style.flexGrow = count[name];
      at("bar").append(part);
    }
    at("legend").append(...STATES.map((name) => el("li", {}, icon(name), el("b", {}, count[name]), COUNTED[name])));
    const figure = (label, value, small) => el("div", {}, el("dt", {}, label), el("dd", { class: small && "small" }, value));
    at("figures").append(
      figure("hosts", count.total.toLocaleString("en")),
      figure("domains", summary.domains.toLocaleString("en")),
      figure("disks", summary.disks.toLocaleString("en")),
      figure("errors", summary.findings.error.toLocaleString("en")),
      figure("warnings", summary.findings.warning.toLocaleString("en")),
      figure("accepted", summary.accepted.toLocaleString("en")),
      figure("Xen releases", Object.entries(summary.releases).map(([name, number]) => `${shown(name, 20)} × ${number}`).join(", ") || "none", true),
    );
  };

  // How much of all names is the same, up to a sign between words: a small tile shows only what follows.
  const prefix = (names) => {
    let same = names[0];
    for (const name of names) while (!name.startsWith(same)) same = same.slice(0, -1);
    return same.replace(/[A-Za-z0-9]*$/, "").length;
  };
  const map = () => {
    const list = at("map");
    list.classList.toggle("many", hosts.length > MANY);
    list.closest(".overview").classList.toggle("few", hosts.length <= MANY);
    const cut = hosts.length > MANY ? prefix(hosts.map((one) => one.host.name)) : 0;
    hosts.forEach((one, index) => {
      const link = el("a", { href: `#host-${one.index}`, class: one.host.status, title: shown(one.host.name, 200), tabindex: index ? -1 : 0,
        "aria-label": `${shown(one.host.name, 200)}, ${WORDS[one.host.status]}` }, icon(one.host.status), word(one.host.name.slice(cut)));
      one.tile = el("li", {}, link);
    });
    list.append(...hosts.map((one) => one.tile));
    list.addEventListener("click", (event) => {
      const link = event.target.closest("a");
      if (!link) return;
      event.preventDefault();
      jump(hosts[Number(link.hash.slice(6))]);
    });
    list.addEventListener("keydown", (event) => { // one stop for Tab; arrows within
      const links = hosts.filter((one) => !one.tile.hidden).map((one) => one.tile.firstChild);
      const now = links.indexOf(document.activeElement);
      const next = { ArrowRight: now + 1, ArrowDown: now + 1, ArrowLeft: now - 1, ArrowUp: now - 1, Home: 0, End: links.length - 1 }[event.key];
      if (now < 0 || next === undefined || !links[next]) return;
      event.preventDefault();
      links[now].tabIndex = -1;
      links[next].tabIndex = 0;
      links[next].focus();
    });
  };
  const jump = (one) => {
    one.node.open = true;
    build(one);
    const head = one.node.firstChild;
    head.focus({ preventScroll: true });
    head.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  };

  const worstOf = {};
  const codes = () => {
    for (const one of hosts.flatMap((each) => each.standing)) {
      if (worstOf[one.code] !== "error") worstOf[one.code] = one.severity;
    }
    const order = Object.entries(summary.codes)
      .sort(([one, more], [other, less]) => worstOf[one].localeCompare(worstOf[other]) || less - more || one.localeCompare(other));
    for (const [code, number] of order) {
      at("codes").append(el("li", {}, el("button", { type: "button", class: worstOf[code], "data-code": code, "aria-pressed": "false",
        click: () => { at("code").value = state.code === code ? "" : code; read(); } },
      icon(worstOf[code]), el("code", {}, shown(code, 60)), el("span", { class: "number" }, number),
      el("span", { class: "rule" }, shown(report.codes[code] || "", 200)))));
    }
    if (!order.length) at("codes").append(el("li", { class: "empty" }, "Nothing that is not accepted."));
    const known = [...new Set(report.hosts.flatMap((host) => host.findings.map((one) => one.code)))].sort();
    at("code").append(el("option", { value: "" }, "any or none"), ...known.map((code) => el("option", { value: code }, shown(code, 60))));
  };

  // ---- a host ----

  const row = (one) => {
    const { host, disks, standing } = one;
    const facts = host.status === "unknown"
      ? "not read"
      : `Xen ${shown(host.xen.release || "?", 20)} · ${many(host.domains.length, "domain")} · ${many(disks.length, "disk")}`;
    const first = standing[0];
    const rest = standing.length > 1 ? ` and ${standing.length - 1} more` : "";
    one.node = el("details", { class: "host", id: `host-${one.index}`, toggle: () => one.node.open && build(one) },
      el("summary", {}, icon(host.status), el("span", { class: "name" }, word(host.name), unseen(`, ${WORDS[host.status]}`)),
        el("span", { class: "facts" }, facts),
        el("span", { class: "strip", "aria-hidden": "true" }, host.domains.slice(0, 60).map((domain) => el("i", { class: domain.status }))),
        el("span", { class: `first ${first ? first.severity : "ok"}` }, first ? [el("code", {}, shown(first.code, 60)), rest] : "nothing found"),
        el("span", { class: "mark", "aria-hidden": "true" })));
    return one.node;
  };

  const build = (one) => {
    if (!one.built) {
      one.built = true;
      const { host } = one;
      const accepted = host.findings.filter((finding) => finding.accepted !== null);
      one.list = el("ul", { class: "findings" }, one.standing.map((finding) => card(finding)));
      one.node.append(el("div", { class: "body" },
        lead(host),
        host.domains.length || host.backends.length ? picture(host) : null,
        one.standing.length ? el("section", {}, el("h3", {}, `Findings (${one.standing.length})`), one.list) : null,
        accepted.length ? el("section", {}, el("h3", {}, `Accepted (${accepted.length})`),
          el("ul", { class: "findings" }, accepted.map((finding) => card(finding)))) : null,
        host.domains.length ? table(host) : null));
    }
    for (const item of one.node.querySelectorAll("[data-code]")) item.hidden = Boolean(state.code) && item.dataset.code !== state.code;
  };

  const lead = (host) => {
    if (host.status === "unknown") return null;
    const memory = host.memory && host.memory.total ? `${host.memory.free ?? "?"} of ${host.memory.total} MiB free` : null;
    const said = [`Xen ${host.xen.version || host.xen.release || "of unknown release"}`, host.xen.arch, host.xen.xenstored, memory].filter(Boolean).join(" · ");
    const unchecked = host.unchecked.length ? ` · not looked into: ${host.unchecked.join(", ")}` : "";
    return el("p", { class: "lead word" }, shown(said + unchecked));
  };

  const card = (finding) => {
    const where = [finding.domain, finding.vdev].filter(Boolean).map((part) => shown(part, 80)).join(" · ");
    const taken = finding.accepted !== null;
    return el("li", { class: `finding ${taken ? "accepted unknown" : finding.severity}`, "data-code": finding.code },
      el("header", {}, unseen(taken ? "accepted " : `${finding.severity} `),
        el("code", { title: shown(report.codes[finding.code] || "", 200) }, shown(finding.code, 60)), where ? word(where, "span", "where") : null),
      word(finding.message, "p"),
      taken ? el("p", { class: "why word" }, el("b", {}, "Accepted: "), shown(finding.accepted)) : [
        el("p", { class: "why word" }, shown(finding.why)),
        el("p", { class: "word" }, el("b", {}, "Remedy: "), shown(finding.remedy))]);
  };

  const table = (host) => {
    const rows = host.domains.flatMap((domain) =>
      (domain.disks.length ? domain.disks : [null]).map((disk) => el("tr", {},
        el("td", {}, icon(disk ? disk.status : domain.status), unseen(disk ? disk.status : domain.status)),
        el("th", { scope: "row" }, word(shown(domain.name, 120)), ` (${domain.domid ?? "–"})`),
        el("td", {}, shown(domain.leftover || domain.run_state, 40)),
        disk ? [el("td", {}, word(shown(disk.vdev ?? disk.devid, 40), "code")), el("td", {}, word(shown(disk.target ?? "", 200), "code")),
          el("td", {}, shown(disk.access ?? "", 10)), el("td", {}, word(shown(disk.backend ?? "", 80))), el("td", {}, shown(disk.health ?? "", 20))]
          : el("td", { colspan: 5 }, "no disks"))));
    const heads = ["", "Domain", "State", "Disk", "Target", "Access", "Served by", "Health"];
    return el("details", { class: "more" }, el("summary", {}, "Domains and disks as a table"),
      el("div", { class: "table" }, el("table", {},
        el("caption", {}, `Domains and disks of `, word(shown(host.name, 120))),
        el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head || unseen("Health"))))), el("tbody", {}, rows))));
  };

  // ---- the picture: who serves on the left, guests and their disks on the right ----

  const WIDE = 960, LEFT = 232, RIGHT = 452, HEAD = 32, LINE = 25, GAP = 12, SERVER = 84;
  const clip = (value, limit) => {
    const text = shown(value ?? "", 400);
    return text.length > limit ? `${text.slice(0, limit - 1)}…` : text;
  };
  const text = (x, y, kind, value, limit = 40, anchor = null) => {
    const node = svg("text", { x, y, class: `t ${kind}`, "text-anchor": anchor, "unicode-bidi": "isolate" }, clip(value, limit));
    if (shown(value ?? "", 400).length > limit) node.append(svg("title", {}, shown(value, 400)));
    return node;
  };

  const picture = (host) => {
    const servers = new Map();
    const server = (name, found) => {
      if (!servers.has(name)) servers.set(name, { name, found, sum: 0, count: 0 });
      return servers.get(name);
    };
    host.backends.forEach((one) => server(one.name, one));
    const guests = host.domains.filter((one) => one.disks.length || !servers.has(one.name));
    const boxes = svg("g", {}), wires = svg("g", {});
    const joints = [];
    let y = 4;
    for (const guest of guests) {
      const height = HEAD + Math.max(guest.disks.length, 1) * LINE + 6;
      const group = svg("g", {}, svg("rect", { class: `box ${guest.status}`, x: RIGHT, y, width: WIDE - RIGHT - 4, height, rx: 8 }),
        svg("rect", { class: `edge ${guest.status}`, x: RIGHT, y, width: 5, height, rx: 2 }),
        text(RIGHT + 18, y + 21, "big", guest.name, 34));
      const flags = [guest.domid === null ? "no domain" : `domain ${guest.domid}`, guest.leftover || guest.run_state, guest.declared || guest.leftover ? null : "not declared"];
      group.append(text(WIDE - 18, y + 21, "soft", flags.filter(Boolean).join(" · "), 44, "end"));
      group.append(svg("line", { class: "rule-line", x1: RIGHT + 5, x2: WIDE - 4, y1: y + HEAD, y2: y + HEAD }));
      guest.disks.forEach((disk, index) => {
        const middle = y + HEAD + LINE * index + LINE / 2 + 3;
        const bad = disk.health !== "attached" && !(disk.health === "unknown" && disk.status === "ok");
        const kind = bad && disk.status === "ok" ? guest.status : disk.status;
        group.append(svg("circle", { class: `dot ${kind}`, cx: RIGHT + 24, cy: middle, r: 4.5 }),
          text(RIGHT + 38, middle + 4, "code", disk.vdev ?? disk.devid, 8),
          text(RIGHT + 104, middle + 4, "code", disk.target ?? "", bad ? 34 : 40),
          text(WIDE - 18, middle + 4, bad ? `tone ${kind}` : "soft",
            [disk.access === "ro" ? "read-only" : null, disk.specification === "virtio" ? null : disk.specification, bad ? disk.health : null].filter(Boolean).join(" · "), 24, "end"));
        const from = server(disk.backend ?? "?", null);
        from.sum += middle;
        from.count += 1;
        joints.push({ from, y: middle, status: kind });
      });
      if (!guest.disks.length) group.append(text(RIGHT + 18, y + HEAD + LINE / 2 + 7, "soft", "no disks"));
      boxes.append(group);
      y += height + GAP;
    }
    const listed = [...servers.values()].sort((one, other) => (one.count ? one.sum / one.count : 1e9) - (other.count ? other.sum / other.count : 1e9));
    const needed = listed.length * (SERVER + GAP);
    const high = Math.max(y, needed + 4);
    let lowest = 4;
    listed.forEach((one, index) => {
      const wish = one.count ? one.sum / one.count - SERVER / 2 : lowest;
      const room = high - (listed.length - index) * (SERVER + GAP);
      one.y = Math.max(lowest, Math.min(wish, Math.max(room, lowest)));
      lowest = one.y + SERVER + GAP;
      const found = one.found;
      const kind = found ? found.status : "unknown";
      const id = found ? `domain ${found.domid}${found.domid ? " · driver domain" : ""}` : "not known here";
      const daemon = found && (found.launcher ? `launcher ${found.launcher}${found.daemon ? `, ${found.daemon}` : ""}` : found.daemon ? `daemon ${found.daemon}` : "daemon does not report");
      const room2 = found && (found.headroom === null ? `${many(found.disks, "disk")}` : `${many(found.disks, "disk")}, room for ${found.headroom} more`);
      boxes.append(svg("g", {}, svg("rect", { class: `box driver ${kind}`, x: 4, y: one.y, width: LEFT - 4, height: SERVER, rx: 8 }),
        svg("rect", { class: `edge ${kind}`, x: LEFT - 5, y: one.y, width: 5, height: SERVER, rx: 2 }),
        text(18, one.y + 22, "big", one.name, 24), text(18, one.y + 40, "soft", id, 34),
        text(18, one.y + 56, "soft", daemon || "", 34), text(18, one.y + 72, "soft", room2 || "", 34)));
    });
    const taken = new Map();
    joints.sort((one, other) => Number(one.status !== "ok") - Number(other.status !== "ok")); // what is wrong lies on top
    for (const joint of [...joints].sort((one, other) => one.y - other.y)) {
      const number = taken.get(joint.from) || 0;
      taken.set(joint.from, number + 1);
      joint.start = joint.from.y + (SERVER * (number + 1)) / (joint.from.count + 1);
    }
    for (const { start, y: end, status } of joints) {
      wires.append(svg("path", { class: `wire ${status}`, d: `M${LEFT} ${start}C${LEFT + 110} ${start} ${RIGHT - 110} ${end} ${RIGHT} ${end}` }));
    }
    const label = `${shown(host.name, 80)}: ${many(listed.length, "serving domain")}, ${many(guests.length, "guest")}, ${many(joints.length, "disk")}; the table below says the same.`;
    return el("figure", { class: "picture", tabindex: "0", role: "group", "aria-label": `Picture of ${shown(host.name, 80)}` },
      svg("svg", { viewBox: `0 0 ${WIDE} ${Math.ceil(high)}`, role: "img", "aria-label": label }, wires, boxes));
  };

  // ---- filter and search ----

  const chips = () => STATES.map((name) => el("button", { type: "button", class: `chip ${name}`, "aria-pressed": "true", "data-state": name,
    click: (event) => {
      const button = event.currentTarget;
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      state.states[on ? "add" : "delete"](name);
      apply();
    } }, icon(name), WORDS[name]));
  const nothing = el("p", { class: "nothing" }, "No host fits. Clear the filter to see all.");
  const apply = () => {
    let fitting = 0;
    for (const one of hosts) {
      const fit = fits(one);
      fitting += fit;
      one.node.hidden = one.tile.hidden = !fit;
      if (fit && one.built) build(one);
    }
    const stops = hosts.filter((one) => !one.tile.hidden);
    if (stops.length && !stops.some((one) => one.tile.firstChild.tabIndex === 0)) stops[0].tile.firstChild.tabIndex = 0;
    nothing.hidden = fitting > 0 || !hosts.length;
    at("count").textContent = fitting === hosts.length ? many(fitting, "host") : `${fitting} of ${many(hosts.length, "host")}`;
    for (const button of at("codes").querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.code === state.code));
  };
  const read = () => {
    state.text = at("search").value.trim().toLowerCase();
    state.code = at("code").value;
    apply();
  };

  // ---- light and dark ----

  const theme = () => {
    const button = at("theme"), names = ["auto", "light", "dark"];
    let now = "auto";
    try { now = names.includes(localStorage.getItem("xen-virtio-theme")) ? localStorage.getItem("xen-virtio-theme") : "auto"; } catch { /* none kept */ }
    const set = (name) => {
      now = name;
      if (name === "auto") delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = name;
      button.textContent = `Theme: ${name}`;
    };
    set(now);
    button.hidden = false;
    button.addEventListener("click", () => {
      set(names[(names.indexOf(now) + 1) % names.length]);
      try { localStorage.setItem("xen-virtio-theme", now); } catch { /* not kept */ }
    });
  };

  // ---- print: what a person would have opened ----

  let opened = [];
  const WHOLE = 60;
  addEventListener("beforeprint", () => {
    const visible = hosts.filter((one) => !one.node.hidden && !one.node.open);
    for (const one of hosts.length > WHOLE ? visible.filter((each) => each.standing.length) : visible) {
      build(one);
      one.node.open = true;
      opened.push(one);
    }
  });
  addEventListener("afterprint", () => {
    for (const one of opened) one.node.open = false;
    opened = [];
  });

  theme();
  glance();
  map();
  codes();
  at("hosts").append(...hosts.map((one) => row(one)), nothing);
  at("states").append(...chips());
  at("tools").addEventListener("input", read);
  at("tools").addEventListener("submit", (event) => event.preventDefault());
  at("tools").addEventListener("reset", () => setTimeout(() => {
    state.states = new Set(STATES);
    for (const button of at("states").children) button.setAttribute("aria-pressed", "true");
    read();
  }));
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      at("search").focus();
    } else if (event.key === "Escape" && event.target === at("search")) {
      at("search").value = "";
      read();
    }
  });
  apply();
  const addressed = () => {
    const found = /^#host-(\d+)$/.exec(location.hash);
    return found ? hosts[Number(found[1])] : undefined;
  };
  addEventListener("hashchange", () => {
    const one = addressed();
    if (one && !one.node.hidden) jump(one);
  });
  if (addressed()) jump(addressed());
  else if (hosts.length && hosts[0].standing.length) {
    hosts[0].node.open = true;
    build(hosts[0]);
  }
  document.documentElement.dataset.drawn = String(Math.round(performance.now()));
})();
