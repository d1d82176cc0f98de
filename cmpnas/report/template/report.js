"use strict";
// The interactive parts of a report: the front, the comparison of two, the sorting of the table.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = data.candidates;
  const byId = (id) => document.getElementById(id);
  const state = { cost: data.costs[0][0], own: false, paragon: true, hover: null, chosen: data.chosen };
  const COLOURS = [0, 1, 2, 3, 4, 5].map((k) => `var(--series${k})`);
  const DASHES = ["", "8 4", "2 3", "9 3 2 3", "14 4", "6 3 2 3 2 3"];
  const colour = (gallery) => COLOURS[gallery % COLOURS.length];

  const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
  const named = (position) => escaped(position).replaceAll(".", ".<wbr>"); // where a long name may break
  const number = (value, digits = 4) => String(Number(value.toPrecision(digits)));
  const score = (value) => (value === null ? "not computed" : value.toFixed(4));
  const costOf = (point) => all[state.cost][point.candidate];
  const pairOf = (point) => all.scores[point.gallery][point.candidate];

  // Indices of the candidates that none beats against a gallery, cheapest first: as cmpnas.search.front has it.
  function front(gallery) {
    const cost = all[state.cost], scores = all.scores[gallery];
    const order = cost.map((_, i) => i).sort((a, b) => cost[a] - cost[b] || scores[b][0] - scores[a][0] || a - b);
    let best = -Infinity;
    return order.filter((i) => scores[i][0] > best && ((best = scores[i][0]), true));
  }

  // The chart

  let view = null; // scales and the points along the front, as last drawn

  function ticks(low, high, most) {
    const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high; k += 1) found.push(k * step);
    return found;
  }

  function logTicks(low, high, most) {
    for (const factors of [[1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 5, 7], [1, 2, 5], [1]]) {
      const found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1)
        for (const factor of factors) {
          const value = factor * 10 ** power;
          if (value >= low && value <= high) found.push(value);
        }
      if (found.length <= most) return found;
    }
    return [low, high];
  }

  // Of points in order those at least so far apart: intervals that hide each other say nothing.
  function spread(points, where, apart) {
    let last = -Infinity;
    return points.filter((point) => where(point) - last >= apart && ((last = where(point)), true));
  }

  const shapes = [
    (x, y) => `M${x - 5} ${y}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0`,
    (x, y) => `M${x - 4.5} ${y - 4.5}h9v9h-9z`,
    (x, y) => `M${x} ${y - 6}l6 10.5h-12z`,
    (x, y) => `M${x} ${y - 6}l6 6l-6 6l-6 -6z`,
    (x, y) => `M${x} ${y + 6}l6 -10.5h-12z`,
    (x, y) => `M${x - 2} ${y - 6}h4v4h4v4h-4v4h-4v-4h-4v-4h4z`,
  ];
  const shape = (gallery, x, y) => shapes[gallery % shapes.length](x, y);

  function star(x, y) {
    const corners = [...Array(10).keys()].map((k) => {
      const radius = k % 2 ? 3.6 : 9, angle = (Math.PI * k) / 5;
      return `${(x + radius * Math.sin(angle)).toFixed(1)} ${(y - radius * Math.cos(angle)).toFixed(1)}`;
    });
    return `M${corners.join("L")}z`;
  }

  function draw() {
    const chart = byId("chart"), width = Math.max(280, chart.clientWidth), height = Math.max(300, Math.min(520, width * 0.55));
    const left = 52, right = width - 18, top = 16, bottom = height - 46;
    const paragon = data.paragon, paragonCost = state.paragon ? paragon[state.cost] : null;
    const costs = all[state.cost], limit = data.budget[state.cost];
    const fronts = data.galleries.map((_, g) => front(g));
    const ys = data.galleries.flatMap((_, g) => [...all.scores[g].map((s) => s[0]), ...fronts[g].flatMap((i) => all.scores[g][i])]);
    const owned = state.own ? costs.map((_, i) => i).filter((i) => all.homogeneous[i] !== null) : [];
    ys.push(...owned.map((i) => all.homogeneous[i]));
    if (paragon.score !== null) ys.push(paragon.score);
    const xs = [...costs, ...(paragonCost ? [paragonCost] : []), ...(limit && state.paragon ? [limit] : [])];
    const reduce = (pick, values) => values.reduce((a, b) => pick(a, b));
    let [low, high] = [reduce(Math.min, ys), reduce(Math.max, ys)];
    [low, high] = [low - 0.05 * (high - low || 0.1), high + 0.05 * (high - low || 0.1)];
    const [cheap, dear] = [reduce(Math.min, xs) / 1.12, reduce(Math.max, xs) * 1.12];
    const x = (cost) => left + ((right - left) * Math.log(cost / cheap)) / Math.log(dear / cheap);
    const y = (value) => bottom - ((bottom - top) * (value - low)) / (high - low);
    const at = (value) => value.toFixed(1);

    const parts = [];
    for (const value of logTicks(cheap, dear, width / 60))
      parts.push(`<path class="grid" d="M${at(x(value))} ${top}V${bottom}"/><text x="${at(x(value))}" y="${bottom + 17}" text-anchor="middle">${number(value)}</text>`);
    for (const value of ticks(low, high, 7))
      parts.push(`<path class="grid" d="M${left} ${at(y(value))}H${right}"/><text x="${left - 7}" y="${at(y(value) + 4)}" text-anchor="end">${number(value)}</text>`);
    parts.push(`<path class="axis" fill="none" d="M${left} ${top}V${bottom}H${right}"/>`);
    parts.push(`<text x="${(left + right) / 2}" y="${height - 8}" text-anchor="middle">${escaped(data.costs.find((c) => c[0] === state.cost)[1])}, log scale</text>`);
    parts.push(`<text x="${left + 6}" y="${top + 4}">${escaped(data.metric)}</text>`);
    if (limit && limit >= cheap && limit <= dear) parts.push(`<path class="limit" d="M${at(x(limit))} ${top}V${bottom}"/>`);
    parts.push(`<path class="own" d="${owned.map((i) => `M${at(x(costs[i]) - 3)} ${at(y(all.homogeneous[i]) - 3)}l6 6m-6 0l6 -6`).join("")}"/>`);
    const along = [];
    data.galleries.forEach((_, g) => {
      const scores = all.scores[g], best = fronts[g];
      parts.push(`<path class="dots" stroke="${colour(g)}" stroke-linecap="${g % 2 ? "square" : "round"}" d="${costs.map((c, i) => `M${at(x(c))} ${at(y(scores[i][0]))}h0`).join("")}"/>`);
      const spaced = spread(best, (i) => x(costs[i]), 14);
      parts.push(`<path class="bars" stroke="${colour(g)}" d="${spaced.map((i) => `M${at(x(costs[i]))} ${at(y(scores[i][1]))}V${at(y(scores[i][2]))}`).join("")}"/>`);
      parts.push(`<path class="front" stroke="${colour(g)}" stroke-dasharray="${DASHES[g % DASHES.length]}" d="M${best.map((i) => `${at(x(costs[i]))} ${at(y(scores[i][0]))}`).join("L")}"/>`);
      parts.push(`<path class="marks" fill="${colour(g)}" d="${best.map((i) => shape(g, x(costs[i]), y(scores[i][0]))).join("")}"/>`);
      best.forEach((i) => along.push({ candidate: i, gallery: g }));
    });
    parts.push(`<path class="level" d="M${left} ${at(y(paragon.score))}H${right}"/>`);
    if (paragonCost) parts.push(`<path class="star" d="${star(x(paragonCost), y(paragon.score))}"/>`);
    state.chosen.forEach((point, k) => {
      const [px, py] = [x(costOf(point)), y(pairOf(point)[0])];
      parts.push(`<circle class="ring" cx="${at(px)}" cy="${at(py)}" r="9"/><text class="letter" x="${at(px + 10)}" y="${at(py + 18)}">${"AB"[k]}</text>`);
    });
    chart.innerHTML = `<svg viewBox="0 0 ${width} ${height}" height="${height}" aria-hidden="true">${parts.join("")}<circle class="ring" id="hover" r="7" visibility="hidden"/></svg><div class="tip" id="tip" hidden></div>`;
    along.sort((a, b) => costOf(a) - costOf(b));
    view = { x, y, along, width };
    if (state.hover) show(state.hover);
  }

  function nearest(event) {
    const box = byId("chart").querySelector("svg").getBoundingClientRect();
    const [mx, my] = [event.clientX - box.left, event.clientY - box.top];
    let found = null, least = 30 ** 2;
    data.galleries.forEach((_, gallery) =>
      all.scores[gallery].forEach((pair, candidate) => {
        const apart = (view.x(all[state.cost][candidate]) - mx) ** 2 + (view.y(pair[0]) - my) ** 2;
        if (apart < least) [least, found] = [apart, { candidate, gallery }];
      }),
    );
    return found;
  }

  function facts(point) {
    const [value, low, high] = pairOf(point), i = point.candidate;
    const lines = data.costs.map(([key, name]) => `${number(all[key][i])} ${name}`);
    if (data.paragon.mflops) lines.push(`${number(data.paragon.mflops / all.mflops[i], 3)} times cheaper than the paragon`);
    lines.push(`M(q,g) ${score(value)} [${score(low)}, ${score(high)}]`, `M(q,q) ${score(all.homogeneous[i])}`);
    lines.push(`${(100 * (data.paragon.score - value)).toFixed(2)} points below the paragon`);
    if (data.galleries.length > 1) lines.push(`gallery ${data.galleries[point.gallery]}`);
    return lines;
  }

  function show(point) {
    state.hover = point;
    const tip = byId("tip"), ring = byId("hover");
    tip.hidden = !point;
    ring.setAttribute("visibility", point ? "visible" : "hidden");
    if (!point) return;
    const [px, py] = [view.x(costOf(point)), view.y(pairOf(point)[0])];
    ring.setAttribute("cx", px);
    ring.setAttribute("cy", py);
    tip.innerHTML = `<code>${escaped(all.id[point.candidate])}</code><br>${facts(point).map(escaped).join("<br>")}`;
    tip.style.left = `${Math.max(0, Math.min(px + 14, view.width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${py > tip.offsetHeight + 24 ? py - tip.offsetHeight - 12 : py + 16}px`;
  }

  function choose(point) {
    state.chosen = [state.chosen[1], point];
    byId("told").textContent = `B is now ${all.id[point.candidate]}: ${facts(point).join(", ")}. A is what B was.`;
    draw();
    compare();
  }

  function legend() {
    const glyph = (inner) => `<svg viewBox="0 0 22 14" aria-hidden="true">${inner}</svg>`;
    const entries = data.galleries.map((name, g) => [
      `<path d="M0 7H22" stroke="${colour(g)}" stroke-width="1.8" stroke-dasharray="${DASHES[g % DASHES.length]}"/><path d="${shape(g, 11, 7)}" fill="${colour(g)}"/>`,
      `front against gallery ${name}, 95% intervals`,
    ]);
    entries.push([`<path d="${star(11, 8)}" fill="var(--ink)"/>`, `paragon M(g, g) ${score(data.paragon.score)}`]);
    if (Object.keys(data.budget).length) entries.push([`<path d="M11 0V14" stroke="var(--soft)" stroke-dasharray="4 3"/>`, "budget"]);
    byId("legend").innerHTML = entries.map(([inner, text]) => `<li>${glyph(inner)}${escaped(text)}</li>`).join("");
  }

  // The comparison of two

  function decisions(candidate) {
    return data.decisions.map(([, values], k) => {
      const choice = all.choices[candidate][k];
      return choice < 0 ? "none" : String(values[choice]);
    });
  }

  function compare() {
    const [a, b] = state.chosen, chosen = [a, b].map((point) => decisions(point.candidate));
    const row = (name, left, right) =>
      `<tr class="${left === right ? "" : "differs"}"><th scope="row">${named(name)}</th><td>${escaped(left)}</td><td>${left === right ? "" : "≠ "}${escaped(right)}</td></tr>`;
    const plain = (name, pick) => `<tr><th scope="row">${escaped(name)}</th><td>${escaped(pick(a))}</td><td>${escaped(pick(b))}</td></tr>`;
    const heads = [a, b].map((point, k) => `<th scope="col"><b>${"AB"[k]}</b><br>${escaped(all.id[point.candidate])}</th>`).join("");
    const rows = [
      ...data.costs.map(([key, name]) => plain(name, (point) => number(all[key][point.candidate]))),
      plain("M(q,g)", (point) => score(pairOf(point)[0])),
      plain("95% interval", (point) => pairOf(point).slice(1).map(score).join(" to ")),
      plain("M(q,q)", (point) => score(all.homogeneous[point.candidate])),
      ...data.decisions.map(([name], k) => (chosen[0][k] === "none" && chosen[1][k] === "none" ? "" : row(name, chosen[0][k], chosen[1][k]))),
    ];
    const macs = [a, b].map((point) => all.macs[point.candidate]);
    const most = Math.max(...macs.flat());
    const bars = data.positions.map((name, k) => {
      const [one, two] = [macs[0][k], macs[1][k]];
      if (!one && !two) return "";
      const bar = (value, side) => `<span class="bar ${side}" style="width:${((100 * value) / most).toFixed(1)}%"></span>`;
      return `<tr><th scope="row">${named(name)}</th><td class="share">${bar(one, "a")}${bar(two, "b")}</td><td>${number(one / 1e6, 3)}<br>${number(two / 1e6, 3)}</td></tr>`;
    });
    byId("comparison").innerHTML =
      `<div class="wide"><table><thead><tr><td></td>${heads}</tr></thead><tbody>${rows.join("")}</tbody></table></div>` +
      `<div class="wide"><table><caption>MFLOPs of each layer: A solid, B striped</caption><tbody>${bars.join("")}</tbody></table></div>`;
  }

  // The table

  function sortBy(head) {
    const column = head.cellIndex, up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = byId("table").tBodies[0], key = (row) => row.cells[column].dataset.value;
    const order = (p, q) => (isNaN(p) || isNaN(q) ? p.localeCompare(q) : p - q);
    body.append(...[...body.rows].sort((p, q) => (up ? 1 : -1) * order(key(p), key(q))));
  }

  // What the reader does

  const chart = byId("chart");
  chart.addEventListener("pointermove", (event) => show(nearest(event)));
  chart.addEventListener("pointerleave", () => show(null));
  chart.addEventListener("click", (event) => {
    const point = nearest(event);
    if (point) choose(point);
  });
  chart.addEventListener("keydown", (event) => {
    const here = state.hover ? view.along.findIndex((p) => p.candidate === state.hover.candidate && p.gallery === state.hover.gallery) : -1;
    const to = { ArrowRight: here + 1, ArrowLeft: here < 0 ? view.along.length - 1 : here - 1 }[event.key];
    if (to !== undefined && view.along[to]) {
      show(view.along[to]);
      byId("told").textContent = `${all.id[view.along[to].candidate]}: ${facts(view.along[to]).join(", ")}`;
    } else if (event.key === "Enter" && state.hover) choose(state.hover);
    else if (event.key === "Escape") show(null);
    else return;
    event.preventDefault();
  });
  for (const [key, name] of data.costs) byId("cost").add(new Option(name, key));
  byId("cost").addEventListener("change", (event) => ((state.cost = event.target.value), draw()));
  byId("own").addEventListener("change", (event) => ((state.own = event.target.checked), draw()));
  byId("paragon").addEventListener("change", (event) => ((state.paragon = event.target.checked), draw()));
  byId("table").addEventListener("click", (event) => {
    const button = event.target.closest("button"), head = event.target.closest("th");
    if (head && button) sortBy(head);
    else if (button) choose({ candidate: Number(button.dataset.candidate), gallery: Number(button.dataset.gallery) });
  });
  let drawn = 0;
  new ResizeObserver(() => {
    if (chart.clientWidth !== drawn) {
      drawn = chart.clientWidth;
      draw();
    }
  }).observe(chart);
  legend();
  draw();
  compare();
  document.documentElement.dataset.drawnMs = Math.round(performance.now()); // since the page was asked for
})();
