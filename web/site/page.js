// The operator's page: it reads the JSON pages of its own port and shows them. Whatever is in them becomes text, never markup: Call-IDs are strangers' words.

const every = 2000; // ms between two looks
const most = 200;   // legs and calls that are drawn; the filter finds the others

const $ = (id) => document.getElementById(id);
const known = new Map(); // crashes that are closed, by id: they do not change any more
let chosen = ""; // id of a crash
let shown;       // the crash that is drawn

// The address says what is looked at, #crash=ID&call=TEXT, so that one can send it to somebody.
function fromAddress() {
  const q = new URLSearchParams(location.hash.slice(1));
  chosen = q.get("crash") ?? "";
  $("filter").value = q.get("call") ?? "";
}

function toAddress() {
  const q = new URLSearchParams({ crash: chosen });
  if ($("filter").value) q.set("call", $("filter").value);
  history.replaceState(null, "", `#${q}`);
}

// el makes an element of texts and other elements.
function el(name, attributes, ...content) {
  const e = document.createElement(name);
  for (const [k, v] of Object.entries(attributes ?? {})) e[k] = v;
  e.append(...content.map((c) => (c instanceof Node ? c : String(c ?? ""))));
  return e;
}

const row = (...cells) => el("tr", {}, ...cells.map((c) => el("td", {}, c)));
const ms = (to, from) => Math.round(new Date(to) - new Date(from));
const dash = (text) => (text ? text : "-");

async function read(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${(await answer.text()).trim().slice(0, 500)}`);
  return answer.json();
}

function showStatus(st) {
  $("role").textContent = st.role;
  $("about").textContent = `${st.version}, up ${st.uptime}, ${st.ready ? "ready" : "not ready"}`;
  $("count-rows").replaceChildren(...Object.entries(st.counts).sort().map(([name, n]) => row(name, n)));
  $("listeners").replaceChildren(...(st.listeners ?? []).map((l) => el("li", {}, l)));
  const nodes = st.farm_nodes ?? [];
  $("nodes").hidden = nodes.length === 0;
  $("node-rows").replaceChildren(...nodes.map((n) => row(n.farm, n.node, n.state)));
}

function showCalls(calls) {
  $("calls").hidden = false;
  const legs = calls.flatMap((c) => c.legs.map((l) => [c, l]));
  $("call-rows").replaceChildren(...legs.slice(0, most).map(([c, l]) =>
    row(c.call_id, `${Math.round((Date.now() - new Date(c.created)) / 1000)} s`, l.side, l.codec, dash(l.crypto), l.local_port, l.remote, l.packets, l.lost)));
  $("more-calls").textContent = legs.length > most ? `and ${legs.length - most} legs more` : `${calls.length} calls`;
}

function state(c) {
  if (c.stopped) return "stopped";
  if (c.closed) return "closed";
  return c.done ? "done" : "recovering";
}

function fence(c) {
  if (!c.fenced) return "none";
  return c.freed ? "down" : "up";
}

// Times that stand in the crash's record, in words.
const times = { done: "done", closed: "closed", returned: "returned", freed: "let in again", settled: "settled" };

function showCrashes(list) {
  $("crashes").hidden = false;
  $("no-crash").hidden = list.length > 0;
  $("crash-rows").replaceChildren(...list.toReversed().map((c) => {
    const results = Object.entries(c.results ?? {}).sort();
    const open = el("button", { className: "link", type: "button" }, c.id);
    open.addEventListener("click", () => {
      chosen = c.id;
      toAddress();
      look();
    });
    const r = row(open, new Date(c.detected).toLocaleString(), `${ms(c.detected, c.since)} ms`, state(c), fence(c), c.done ? `${ms(c.done, c.detected)} ms` : "-",
      results.reduce((n, [, count]) => n + count, 0), c.results?.recovered ?? 0,
      dash(results.filter(([name]) => name !== "recovered").map(([name, count]) => `${count} ${name}`).join(", ")),
      c.taken ? `${c.controller}, taken over ${c.taken} times` : c.controller, c.reason);
    if (c.id === chosen) r.className = "chosen";
    return r;
  }));
}

// track draws steps to scale: each part is the time from one step to the next.
function track(into, steps, since, end) {
  into.replaceChildren(...steps.map((s, i) => {
    const from = ms(s.at, since);
    const to = i + 1 < steps.length ? ms(steps[i + 1].at, since) : from;
    const part = el("i", { title: `${from} ms: ${words(s)}` });
    part.style.left = `${100 * Math.min(1, Math.max(0, from / end))}%`;
    part.style.width = `${100 * Math.min(1, Math.max(0.002, (to - from) / end))}%`;
    return part;
  }));
}

function words(s) {
  const about = [s.result === s.name ? "" : s.result, s.reason].filter(Boolean).join(": ");
  return about ? `${s.name} (${about})` : s.name;
}

const listed = (steps, since) => steps.map((s) => el("li", {}, el("b", {}, ms(s.at, since)), ` ${words(s)}`));

function showCrash(c) {
  shown = c;
  $("crash").hidden = false;
  $("crash-id").textContent = c.id;
  $("crash-since").textContent = new Date(c.since).toISOString();
  const own = [{ name: "first sign", at: c.since, reason: c.reason }, { name: "verdict", at: c.detected }, ...(c.steps ?? []),
    ...Object.entries(times).filter(([key]) => c[key]).map(([key, name]) => ({ name, at: c[key] }))]
    .sort((a, b) => new Date(a.at) - new Date(b.at));
  const legs = c.legs ?? [];
  const end = Math.max(1, ...(c.done ? [ms(c.done, c.since)] : []), ...legs.flatMap((l) => l.steps.map((s) => ms(s.at, c.since))));
  track($("crash-track"), own.filter((s) => ms(s.at, c.since) <= end), c.since, end);
  $("crash-steps").replaceChildren(...listed(own, c.since));

  const want = $("filter").value.trim().toLowerCase();
  const fits = legs.filter((l) => [l.sip_call_id, l.call, l.leg].some((t) => t.toLowerCase().includes(want)));
  $("shown").textContent = `${Math.min(fits.length, most)} of ${legs.length} legs`;
  $("legs").replaceChildren(...fits.slice(0, most).map((l) => {
    const bar = el("div", { className: "track" });
    track(bar, l.steps, c.since, end);
    return el("div", { className: "leg" },
      el("h3", {}, el("span", { className: l.result }, l.result), ` ${l.sip_call_id}, call ${l.call}, leg ${l.leg}`, l.target ? `, on ${l.target}` : "", l.reason ? `: ${l.reason}` : ""),
      bar, el("ol", { className: "steps" }, ...listed(l.steps, c.since)));
  }));
}

async function crash() {
  if (!chosen) return;
  let c = known.get(chosen);
  if (!c) {
    [c] = await read(`/crashes?id=${encodeURIComponent(chosen)}`);
    if (!c) throw new Error(`no crash ${chosen}`);
    if (c.settled) known.set(c.id, c);
  }
  if (c.id === chosen) showCrash(c);
}

let looking = false;
let again = false;

// look reads everything once. One look at a time: the answers of a slow port do not pile up.
async function look() {
  if (looking) {
    again = true;
    return;
  }
  looking = true;
  try {
    const st = await read("/status");
    showStatus(st);
    if (st.pages.includes("/crashes")) {
      showCrashes(await read("/crashes?brief=1"));
      await crash();
    }
    if (st.pages.includes("/calls")) showCalls(await read("/calls"));
    $("trouble").hidden = true;
  } catch (err) {
    $("trouble").textContent = err.message;
    $("trouble").hidden = false;
  }
  looking = false;
  if (again) {
    again = false;
    await look();
  }
}

$("filter").addEventListener("input", () => {
  toAddress();
  if (shown) showCrash(shown);
});
addEventListener("hashchange", () => {
  fromAddress();
  look();
});
fromAddress();
setInterval(() => { if (!document.hidden) look(); }, every);
look();
