// The page of the essay pipeline: sends an essay to intake, follows it through
// the notifications of the WebSocket and shows what the checker found.
//
// Everything that came from a person or a service enters the page as text
// (textContent), never as markup.

const STAGES = [
  // name, label, what happens, end and start of its time (keys of `moments`)
  ["received", "Received", "intake has read the request", "received_at", "sent_at"],
  ["stored", "Stored with its event", "one transaction, two rows", "stored_at", "received_at"],
  ["relayed", "Relayed to Kafka", "outbox to topic", "relayed_at", "stored_at"],
  ["checked", "Spell-checked", "consumed once, every word looked up", "checked_at", "relayed_at"],
  ["result-stored", "Result stored", "with the next event, one transaction", "result_stored_at", "checked_at"],
  ["notified", "Notified", "Kafka to your Redis channel", "notified_at", "result_stored_at"],
  ["browser", "In your browser", "pushed over the WebSocket", "shown_at", "notified_at"],
];
const NEAR = 0.9; // from this part of the most characters on they are counted before the writer's eyes
const PATIENCE_MS = 20_000; // without a result this long the page says so
const RETRY_MS = { first: 500, most: 10_000 };
const HISTORY = { key: "essays", most: 20 };
const USER_KEY = "user";
const WRONG_TOKEN = 4401; // the close codes of notify
const UNKNOWN_ID = 4400;
const LAST_KEY = "last"; // the id of the last message: who comes back with it gets what was missed

const $ = (id) => document.getElementById(id);
const state = {
  config: null, // of notify; `token` is opaque
  essays: new Map(), // correlation id → essay, oldest first
  shown: null, // correlation id of the essay on display
  picked: null, // the shelf's text that the text area started from; `put` is what was put there
  goneAt: 0, // what was announced before may be lost, and will not come
};

// --- Small helpers -------------------------------------------------------

function element(tag, { text, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

function newId() {
  if (crypto.randomUUID) return crypto.randomUUID(); // only where the address is https or local
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

// Milliseconds with fractions: Date alone would drop the services' microseconds.
function milliseconds(iso) {
  const whole = Date.parse(iso);
  if (Number.isNaN(whole)) return undefined;
  const decimals = /\.\d{3}(\d{1,3})/.exec(iso);
  return whole + (decimals ? Number(decimals[1].padEnd(3, "0")) / 1000 : 0);
}

const now = () => performance.timeOrigin + performance.now();

function duration(ms) {
  if (ms < 1) return "<1 ms"; // also where Kafka's whole milliseconds seem to precede the commit
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 10_000) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(1)} s`;
}

const wordsOf = (text) => text.match(/[\p{L}\p{N}]+(?:['’:-][\p{L}\p{N}]+)*/gu) ?? [];
const pairsOf = (text) => wordsOf(text.toLowerCase()).map((word, index, all) => `${word} ${all[index + 1] ?? ""}`);
const countWords = (text) => wordsOf(text).length;
const characters = (text) => Array.from(text).length; // code points, as the services count
const number = (count) => count.toLocaleString("en");
const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;

function remember(storageKey, value) {
  try {
    sessionStorage.setItem(storageKey, JSON.stringify(value));
  } catch {
    // Private windows may refuse, or the store is full: the page works without.
  }
}

function recall(storageKey) {
  try {
    return JSON.parse(sessionStorage.getItem(storageKey));
  } catch {
    return null;
  }
}

// --- Words to the person -------------------------------------------------

function say(text) {
  $("status").textContent = text;
}

function showError(message, detail = "") {
  $("error-message").textContent = message;
  $("error-detail").textContent = detail;
  $("error").hidden = false;
}

function clearError() {
  $("error").hidden = true;
}

class Refused extends Error {
  constructor(message, detail) {
    super(message);
    this.detail = detail;
  }
}

async function refusal(response, correlationId) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // Not one of our error bodies: a proxy's page, or nothing.
  }
  // The services' own words are for developers; they stay in the detail.
  const named = {
    400: "The service did not accept the essay as it is.",
    401: "The service no longer knows you. Reload the page to get a new identity.",
    404: "The service does not have that.",
    413: "The text is too large to send. Shorten it, or check it in parts.",
    429: "Too many essays at once. Wait a moment and try again.",
    503: "The service is not ready. Try again in a moment.",
  };
  const message = named[response.status] || "The service could not take the essay.";
  const detail = [`HTTP ${response.status}`, error.code, error.message, `correlation id ${error.correlation_id || correlationId}`];
  return new Refused(message, detail.filter(Boolean).join(" · "));
}

// --- The journey ---------------------------------------------------------

function buildTrack() {
  for (const [name, label, explanation] of STAGES) {
    $("track").append(
      element(
        "li",
        { class: "stage", "data-stage": name, "data-testid": `stage-${name}`, "data-state": "idle" },
        element("span", { class: "node", "aria-hidden": "true" }),
        element(
          "span",
          { class: "stage-words" },
          element("span", { class: "stage-name", text: label }),
          element("span", { class: "stage-note", text: explanation }),
        ),
        element("span", { class: "duration" }),
      ),
    );
  }
}

// What every stage took, or undefined where its time is not known yet.
function stageTimes(essay) {
  return STAGES.map(([, , , end, start]) => {
    const [from, to] = [essay.moments[start], essay.moments[end]];
    return from === undefined || to === undefined ? undefined : Math.max(0, to - from);
  });
}

function renderTrack(essay) {
  const times = essay ? stageTimes(essay) : [];
  const reached = essay ? STAGES.map(([, , , end]) => essay.moments[end] !== undefined) : [];
  const last = reached.lastIndexOf(true);
  [...$("track").children].forEach((stage, index) => {
    const waiting = essay && !essay.overdue && index === last + 1;
    stage.dataset.state = index <= last ? "done" : waiting ? "active" : "idle";
    stage.querySelector(".duration").textContent = times[index] === undefined ? "" : duration(times[index]);
  });
  renderTotal(essay);
  renderShare(times);
  $("essay-id").textContent = essay?.essay_id ?? "–";
  $("correlation-id").textContent = essay?.correlation_id ?? "–";
  $("trace-id").textContent = essay?.trace_id ?? "–";
}

function renderTotal(essay) {
  const { shown_at: end, stored_at: commit } = essay?.moments ?? {};
  $("total").textContent = end === undefined || commit === undefined ? "–" : duration(Math.max(0, end - commit));
}

// A bar that shows where the time went.
function renderShare(times) {
  const complete = times.length > 0 && times.every((time) => time !== undefined);
  const share = $("share");
  share.hidden = !complete;
  if (!complete) return;
  const sum = Math.max(1, times.reduce((total, time) => total + time, 0));
  share.replaceChildren(
    ...STAGES.map(([name, label], index) => {
      const part = element("span", { class: `part part-${index}`, title: `${label}: ${duration(times[index])}` });
      part.dataset.part = name;
      part.style.flexGrow = String(Math.max(0.012, times[index] / sum));
      return part;
    }),
  );
}

// --- The result ----------------------------------------------------------

function renderResult(essay) {
  const checked = essay?.misspellings !== undefined;
  const result = $("result");
  if (checked && result.dataset.essayId === essay.essay_id) return; // rebuilt marks would lose focus
  if (checked) result.dataset.essayId = essay.essay_id;
  else delete result.dataset.essayId;
  $("result-empty").hidden = checked;
  $("result-text").hidden = !checked;
  $("result-hint").hidden = !(checked && essay.misspellings.length > 0);
  hideTooltip();
  if (!checked) {
    $("result-summary").textContent = "";
    $("result-text").replaceChildren();
    return;
  }
  const found = essay.misspellings.length;
  $("result-summary").textContent = `${found === 0 ? "No misspellings" : plural(found, "misspelling")} in ${plural(essay.word_count, "word")}`;
  $("result-text").lang = essay.language;
  $("result-text").replaceChildren(...markedText(essay.text, essay.misspellings));
}

// The services count code points, JavaScript's strings count UTF-16 units: an
// emoji before a word would shift its mark. Array.from splits by code points.
function markedText(text, misspellings) {
  const points = Array.from(text);
  const nodes = [];
  let done = 0;
  for (const { word, start, end, suggestions } of [...misspellings].sort((a, b) => a.start - b.start)) {
    if (start < done || points.slice(start, end).join("") !== word) {
      console.warn(`The offsets ${start}–${end} of ${word} do not fit the text`);
      continue;
    }
    const mark = element("mark", { class: "misspelling", tabindex: "0", text: word });
    mark.dataset.suggestions = JSON.stringify(suggestions);
    nodes.push(points.slice(done, start).join(""), mark);
    done = end;
  }
  nodes.push(points.slice(done).join(""));
  return nodes;
}

function showTooltip(mark) {
  hideTooltip();
  const tooltip = $("tooltip");
  const suggestions = JSON.parse(mark.dataset.suggestions);
  tooltip.replaceChildren(
    element("span", { class: "tooltip-label", text: suggestions.length ? "Did you mean" : "No suggestion for this word" }),
    element(
      "span",
      { class: "suggestions" },
      ...suggestions.map((text, index) => element("span", { class: index === 0 ? "suggestion best" : "suggestion", text })),
    ),
  );
  tooltip.lang = $("result-text").lang;
  tooltip.hidden = false;
  mark.setAttribute("aria-describedby", "tooltip");
  const [place, box] = [mark.getClientRects()[0], tooltip.getBoundingClientRect()];
  const left = Math.min(Math.max(8, place.left + place.width / 2 - box.width / 2), document.documentElement.clientWidth - box.width - 8);
  // Below the word: above the first line it would cover the heading.
  const below = place.bottom + 8;
  const above = place.top - box.height - 8;
  const fits = below + box.height <= document.documentElement.clientHeight - 8 || above < 8;
  tooltip.style.left = `${Math.max(8, left) + scrollX}px`;
  tooltip.style.top = `${(fits ? below : above) + scrollY}px`;
}

function hideTooltip() {
  $("tooltip").hidden = true;
  for (const mark of document.querySelectorAll("mark[aria-describedby]")) mark.removeAttribute("aria-describedby");
}

function listenForMarks() {
  const area = $("result-text");
  const onMark = (action) => (event) => {
    const mark = event.target.closest("mark.misspelling");
    if (mark) action(mark);
  };
  area.addEventListener("pointerover", onMark((mark) => showTooltip(mark)));
  area.addEventListener("pointerout", onMark(() => {
    const focused = document.activeElement?.closest("mark.misspelling");
    if (focused) showTooltip(focused);
    else hideTooltip();
  }));
  area.addEventListener("focusin", onMark((mark) => showTooltip(mark)));
  area.addEventListener("focusout", onMark(() => hideTooltip()));
  document.addEventListener("keydown", (event) => event.key === "Escape" && hideTooltip());
}

// --- Earlier essays ------------------------------------------------------

function renderEarlier() {
  const essays = [...state.essays.values()].reverse();
  $("earlier-empty").hidden = essays.length > 0;
  $("earlier").replaceChildren(
    ...essays.map((essay) => {
      const button = element(
        "button",
        { type: "button", class: "earlier-item" },
        element("span", { class: "earlier-title", text: essay.title }),
        element("span", { class: "earlier-note small", text: verdict(essay) }),
      );
      if (essay.correlation_id === state.shown) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => show(essay.correlation_id));
      return element("li", {}, button);
    }),
  );
}

function verdict(essay) {
  const language = essay.language === "sv" ? "Svenska" : "English";
  if (essay.misspellings === undefined) return `${language} · ${essay.overdue ? "no result yet" : "on its way"}`;
  const { shown_at: end, stored_at: commit } = essay.moments;
  const took = end === undefined || commit === undefined ? "" : ` · ${duration(Math.max(0, end - commit))}`;
  return `${language} · ${plural(essay.misspellings.length, "misspelling")}${took}`;
}

function keep() {
  while (state.essays.size > HISTORY.most) state.essays.delete(state.essays.keys().next().value);
  remember(HISTORY.key, [...state.essays.values()]);
}

function show(correlationId) {
  state.shown = correlationId;
  const essay = state.essays.get(correlationId);
  renderTrack(essay);
  renderResult(essay);
  renderEarlier();
}

// --- Sending -------------------------------------------------------------

async function submit(event) {
  event.preventDefault();
  clearError();
  const text = $("essay-text").value.trim();
  const problem = problemOf(text);
  if (problem) {
    say("");
    showError(problem);
    $("essay-text").focus();
    return;
  }
  const before = state.shown;
  const essay = {
    correlation_id: newId(),
    title: titleOf(text),
    language: $("language").value,
    text,
    moments: { sent_at: now() },
  };
  state.essays.set(essay.correlation_id, essay);
  $("submit").disabled = true;
  say("Sending …");
  show(essay.correlation_id);
  bringJourneyIntoView();
  try {
    learn(essay, await post(essay));
    if (essay.misspellings === undefined) say("Accepted and stored. Waiting for the checker …");
    watch(essay);
  } catch (error) {
    // What was not taken is no earlier essay; its text still stands in the form.
    state.essays.delete(essay.correlation_id);
    if (state.shown === essay.correlation_id) show(before);
    else renderEarlier();
    say("");
    showError(error.message, error.detail ?? `correlation id ${essay.correlation_id}`);
    $("error").scrollIntoView({ block: "nearest" });
  } finally {
    $("submit").disabled = false;
    keep();
    if (state.shown === essay.correlation_id) show(essay.correlation_id);
  }
}

// Why intake would refuse the text, in words for its writer; empty when it would not.
function problemOf(text) {
  if (!text) return "There is nothing to check yet: write something, or take a text from the shelf.";
  if (!state.config) return "The page is not connected yet. Try again in a moment.";
  const { least_characters: least, most_characters: most, most_bytes: mostBytes } = state.config.limits;
  const count = characters(text);
  if (count < least) return `Write at least ${number(least)} characters; this has ${number(count)}.`;
  if (count > most) return `At most ${number(most)} characters can be checked at once; this has ${number(count)}. Shorten it, or check it in parts.`;
  if (text.includes("\0")) return "The text contains an invisible character (NUL) that cannot be stored. Type it anew, or paste it as plain text.";
  const size = new TextEncoder().encode(JSON.stringify({ title: titleOf(text), language: $("language").value, text })).length;
  if (size > mostBytes) return `The text takes ${number(Math.ceil(size / 1024))} kB to send; ${number(Math.floor(mostBytes / 1024))} kB can be sent at once. Shorten it, or check it in parts.`;
  return "";
}

// Where the cards stand below each other, as on a phone.
function bringJourneyIntoView() {
  if (!matchMedia("(max-width: 59.99rem)").matches) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  $("track").closest("section").scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
}

async function post({ title, language, text, correlation_id: correlationId }) {
  if (!state.config) throw new Refused("The page is not set up yet. Try again in a moment.");
  let response;
  try {
    response = await fetch(`${state.config.intake_url}/v1/essays`, {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        "X-User-Token": state.config.token,
        "X-Correlation-ID": correlationId,
      },
      body: JSON.stringify({ title, language, text }),
    });
  } catch {
    throw new Refused("The intake service cannot be reached. Is it running?", `correlation id ${correlationId}`);
  }
  if (response.status === 401) remember(USER_KEY, null); // a reload makes a new user
  if (!response.ok) throw await refusal(response, correlationId);
  const { essay_id, received_at, stored_at } = await response.json();
  return { essay_id, stages: { received_at, stored_at } };
}

function titleOf(text) {
  if (relation(text) === "same") return state.picked.title;
  const words = text.split(/\s+/u).slice(0, 6).join(" ");
  return words.length > 60 ? `${Array.from(words).slice(0, 59).join("")}…` : words;
}

// What a response or a notification tells about an essay.
function learn(essay, { essay_id, trace_id, stages = {} }) {
  essay.essay_id ??= essay_id;
  essay.trace_id = trace_id ?? essay.trace_id;
  for (const [name, iso] of Object.entries(stages)) {
    const moment = iso ? milliseconds(iso) : undefined;
    if (moment !== undefined) essay.moments[name] = moment;
  }
}

function watch(essay) {
  setTimeout(() => {
    if (essay.misspellings !== undefined) return;
    essay.overdue = true;
    keep();
    renderEarlier();
    if (state.shown !== essay.correlation_id) return;
    renderTrack(essay);
    say("");
    const connected = $("connection").dataset.state === "connected";
    showError(
      state.goneAt > essay.moments.sent_at
        ? "No result has arrived. The essay is stored and is checked, but some notifications to this page were lost, and its result may be among them."
        : !connected
        ? "No result has arrived: this page is not connected. The essay is stored and is checked, and its result will appear here when the connection is back."
        : "No result has arrived yet; that takes longer than usual. The essay is stored, and its result will appear here when it has been checked.",
      `essay ${essay.essay_id} · correlation id ${essay.correlation_id}`,
    );
  }, Math.max(0, essay.moments.sent_at + PATIENCE_MS - now()));
}

// --- Receiving -----------------------------------------------------------

function receive({ event, data }) {
  if (event === "ready") {
    setConnection("connected", "Connected");
    return;
  }
  if (event === "history.gone") {
    state.goneAt = now();
    return;
  }
  // The correlation id is this page's own: it knows it before intake has answered.
  const essay = state.essays.get(data?.correlation_id);
  if (!essay || essay.misspellings !== undefined) return; // another tab's, or a repetition
  const { notified_at: notified, ...stages } = data.stages ?? {};
  // The acceptance was notified at a time of its own, which is no stage.
  learn(essay, { ...data, stages: event === "essay.checked" ? { ...stages, notified_at: notified } : stages });
  if (event === "essay.checked") {
    essay.moments.shown_at = now();
    delete essay.overdue;
    essay.misspellings = data.misspellings;
    essay.word_count = data.word_count;
    keep();
    if (state.shown === essay.correlation_id) {
      clearError();
      say(data.misspellings.length ? `Done: ${plural(data.misspellings.length, "misspelling")} found.` : "Done: nothing to correct.");
    }
  }
  if (state.shown === essay.correlation_id) show(essay.correlation_id);
  else renderEarlier();
}

function setConnection(name, text) {
  $("connection").dataset.state = name;
  $("connection-text").textContent = text;
}

let failures = 0;
let retry;
let socket;

function connect() {
  clearTimeout(retry);
  socket?.close();
  const address = new URL("ws", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const last = recall(LAST_KEY);
  const seen = last?.user_id === state.config.user_id ? { last_id: last.id } : {};
  address.search = new URLSearchParams({ token: state.config.token, ...seen }).toString();
  address.hash = "";
  const opened = new WebSocket(address);
  socket = opened;
  opened.addEventListener("message", ({ data }) => {
    failures = 0;
    try {
      const message = JSON.parse(data);
      receive(message);
      if (message.id) remember(LAST_KEY, { user_id: state.config.user_id, id: message.id });
    } catch (error) {
      console.error("A notification could not be read", error);
    }
  });
  opened.addEventListener("close", ({ code }) => {
    if (socket !== opened) return; // replaced by a newer one
    if (code === WRONG_TOKEN) remember(USER_KEY, null); // signed with a secret that is gone: become a new user
    if (code === UNKNOWN_ID) remember(LAST_KEY, null); // of a history that is gone: begin anew
    reconnectLater();
  });
}

// Waits longer after every failure; a random part keeps many pages apart.
function reconnectLater() {
  const wait = Math.min(RETRY_MS.most, RETRY_MS.first * 2 ** failures) * (0.75 + Math.random() / 2);
  failures += 1;
  setConnection("reconnecting", wait < 1500 ? "Reconnecting …" : `Offline, trying again in ${Math.round(wait / 1000)} s`);
  clearTimeout(retry);
  retry = setTimeout(() => start().catch(() => reconnectLater()), wait);
}

// --- The shelf -----------------------------------------------------------

function fillShelf(essays) {
  const picker = $("text-picker");
  picker.querySelectorAll("optgroup").forEach((group) => group.remove());
  for (const [language, label] of [["en", "English"], ["sv", "Svenska"]]) {
    const group = element("optgroup", { label });
    for (const { id, title, author, year } of essays.filter((essay) => essay.language === language)) {
      // "after": the texts were written down from memory, see texts/README.md.
      group.append(element("option", { value: id, text: `${title} – after ${author}, ${year}` }));
    }
    picker.append(group);
  }
}

async function pick() {
  const id = $("text-picker").value;
  if (id) await take(id);
  else state.picked = null;
  describeText();
}

// The same text again, with slips that differ each time.
async function addSlips() {
  if (state.picked) await take(state.picked.id, Math.floor(Math.random() * 1_000_000));
}

async function take(id, seed) {
  clearError();
  try {
    const query = seed === undefined ? "" : `?${new URLSearchParams({ slips: seed })}`;
    const response = await fetch(`texts/${encodeURIComponent(id)}${query}`);
    if (!response.ok) throw await refusal(response, "none");
    const text = await response.json();
    if ($("text-picker").value !== id) return; // another one was picked meanwhile
    state.picked = { ...text, put: text.text };
    $("essay-text").value = text.text;
    $("language").value = text.language;
    describeText();
  } catch (error) {
    showError(error instanceof Refused ? error.message : "The text could not be fetched.", error.detail);
  }
}

// What the text has to do with the one that was taken from the shelf: the "same",
// "changed" by its writer, or their "own". Nobody else's words are put down to an author.
function relation(text) {
  if (!state.picked) return "own";
  const was = state.picked.put.trim();
  if (text.trim() === was) return "same";
  // By pairs of neighbours: single words of one language occur in every text.
  const left = new Set(pairsOf(was));
  const pairs = pairsOf(text);
  const shared = pairs.filter((pair) => left.has(pair)).length;
  return shared >= 5 && shared * 2 >= pairs.length ? "changed" : "own";
}

function describeText() {
  const text = $("essay-text").value;
  const count = countWords(text);
  const related = relation(text);
  const { id, author, source, year, slips } = state.picked ?? {};
  const work = `${author}, ${source} (${year})`;
  const descriptions = {
    same: `after ${work}${slips ? `, with ${plural(slips, "slip")} made for you` : ""}`,
    changed: `Your own words (from ${work})`,
    own: count ? "Your own words" : "Nothing here yet.",
  };
  $("essay-text").lang = $("language").value;
  $("text-picker").value = related === "own" ? "" : id;
  $("slips").disabled = related === "own";
  $("text-source").textContent = descriptions[related];
  $("word-count").textContent = [count ? plural(count, "word") : "", nearLimit(characters(text.trim()))].filter(Boolean).join(" · ");
}

// The number of characters, where it matters.
function nearLimit(count) {
  const { least_characters: least, most_characters: most } = state.config?.limits ?? {};
  if (count > 0 && count < least) return `${number(count)} of at least ${number(least)} characters`;
  return count > most * NEAR ? `${number(count)} of at most ${number(most)} characters` : "";
}

// --- Start ---------------------------------------------------------------

// Also after every lost connection. A tab stays the same user as long as its
// token is good: what is under way must still find it.
async function start() {
  const response = await fetch("config.json", { cache: "no-store" });
  if (!response.ok) throw await refusal(response, "none");
  const first = state.config === null;
  state.config = { ...(await response.json()), ...recall(USER_KEY) };
  const { user_id, token, essays } = state.config;
  remember(USER_KEY, { user_id, token });
  $("user-id").textContent = user_id;
  if (first) fillShelf(essays);
  describeText();
  connect();
}

function restore() {
  for (const essay of recall(HISTORY.key) ?? []) {
    state.essays.set(essay.correlation_id, essay);
    if (essay.misspellings === undefined && !essay.overdue) watch(essay);
  }
  show([...state.essays.keys()].at(-1) ?? null);
}

buildTrack();
restore();
describeText();
listenForMarks();
$("essay-form").addEventListener("submit", submit);
$("text-picker").addEventListener("change", pick);
$("slips").addEventListener("click", addSlips);
$("essay-text").addEventListener("input", describeText);
$("language").addEventListener("change", describeText);
addEventListener("online", () => $("connection").dataset.state !== "connected" && start().catch(() => reconnectLater()));
start().catch(() => reconnectLater());
