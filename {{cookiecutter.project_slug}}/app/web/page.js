// The chat page: sends the conversation to POST /chat and shows the events of the answer as
// they come. Whatever arrives is put into the page as text, never as markup.

const { scroller, log, access, reason, key, composer, question, send, stop, restart, status, turn } =
  Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));

const API_KEY = "api-key"; // in sessionStorage: gone with the tab
const EVENTS = ["queued", "sources", "token", "usage", "done"];

let conversation = []; // the messages to send along: a turn that failed is not among them
let running = null; // the AbortController of the answer under way
let following = true; // whether the reader is at the end, so that new text may scroll
let scrolledTo = 0;

class Failure extends Error {
  constructor({ type, message, retry_after: wait }, code) {
    const later = wait == null ? "" : ` (try again in ${Math.ceil(wait)} s)`;
    super(`${type}${code ? ` (${code})` : ""}: ${message}${later}`);
    this.code = code;
  }
}

/** One question and its answer on the page; a method for each of EVENTS. */
class Turn {
  constructor(text) {
    this.article = turn.content.cloneNode(true).firstElementChild;
    this.part("question").textContent = text;
    this.text = this.part("answer").appendChild(new Text());
    this.asked = performance.now();
    this.tell("waiting for the answer");
    log.append(this.article);
  }

  part(name) {
    return this.article.querySelector(`.${name}`);
  }

  /** Say how it stands, to those who see the page and to those who hear it. */
  tell(text) {
    this.part("note").textContent = status.textContent = text;
  }

  queued({ position }) {
    this.tell(`waiting, position ${position}`);
  }

  sources({ sources = [], degraded = [] }) {
    const [summary, list] = this.part("sources").children;
    list.replaceChildren(...sources.map(sourceItem));
    summary.textContent = sources.length === 1 ? "1 source" : `${sources.length} sources`;
    this.part("sources").hidden = sources.length === 0;
    const missing = degraded.map(({ source, reason }) => `without ${source}: ${reason}`);
    this.part("degraded").textContent = missing.join("; ");
  }

  token({ text }) {
    if (!this.first) {
      this.first = `first token after ${((performance.now() - this.asked) / 1000).toFixed(2)} s`;
      this.tell("answering");
    }
    this.text.appendData(text);
  }

  usage({ prompt_tokens: read, completion_tokens: written }) {
    this.cost = `tokens: ${read} in, ${written} out`;
  }

  done({ finish_reason: reason }) {
    const ending = reason !== "stop" && `ended early: ${reason}`;
    this.end([ending, this.first, this.cost].filter(Boolean).join(" · ") || "an empty answer");
  }

  fail(message) {
    this.end("");
    this.article.classList.add("failed");
    this.part("error").textContent = message;
  }

  end(note) {
    this.part("answer").ariaBusy = "false";
    this.tell(note);
  }
}

function sourceItem({ title, url, snippet, source }) {
  const isLink = /^https?:\/\//i.test(url); // a javascript: address would run
  const name = document.createElement(isLink ? "a" : "span");
  if (isLink) Object.assign(name, { href: url, target: "_blank", rel: "noopener noreferrer" });
  name.textContent = title || url || "untitled";
  const item = document.createElement("li");
  item.append(name, source ? ` (${source})` : "", snippet ? `: ${snippet}` : "");
  return item;
}

async function ask(text) {
  const before = conversation;
  const asked = { role: "user", content: text };
  const shown = new Turn(text);
  const controller = new AbortController();
  setRunning(controller);
  try {
    await receive([...before, asked], shown, controller.signal);
  } catch (failure) {
    if (!controller.signal.aborted) return refuse(shown, text, failure);
    shown.end("stopped");
  } finally {
    controller.abort(); // whatever ended it, nothing more is to be sent for it
    if (running === controller) setRunning(null);
  }
  const answer = shown.text.data;
  if (answer) before.push(asked, { role: "assistant", content: answer });
}

/** Show the answer up to its `done`; every other ending throws. */
async function receive(messages, shown, signal) {
  const headers = { "Content-Type": "application/json" };
  const apiKey = sessionStorage.getItem(API_KEY);
  if (apiKey) headers.Authorization = `Bearer ${apiKey}`;
  const body = JSON.stringify({ messages, retrieve: true });
  const response = await fetch("chat", { method: "POST", headers, body, signal }).catch(() => {
    throw new Failure({ type: "unreachable", message: "the service does not answer" });
  });
  const type = response.headers.get("Content-Type") ?? "";
  if (!type.startsWith("text/event-stream")) throw await refusalOf(response);
  for await (const [name, data] of eventsOf(response.body)) {
    if (name === "error") throw new Failure(data);
    if (EVENTS.includes(name)) shown[name](data);
    if (name === "done") return;
  }
  throw new Error("the stream ended without its last event");
}

async function refusalOf(response) {
  const body = await response.json().catch(() => null);
  const words = (!response.ok && response.statusText) || "this is no answer of the service";
  const told = body?.error?.message ? body.error : { type: "unexpected_response", message: words };
  const wait = Number(response.headers.get("Retry-After")) || undefined;
  return new Failure({ retry_after: wait, ...told }, response.status);
}

/** Yield the name and the parsed data of each server-sent event, however its bytes are cut. */
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let [rest, name, data] = ["", "", []];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return; // what no blank line has ended is no event
    const lines = (rest + value).split(/\r\n|\n|\r(?!$)/); // the LF of a CR may still come
    rest = lines.pop();
    for (const line of lines) {
      const [, field, content] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (field === "event") name = content;
      if (field === "data") data.push(content);
      if (line) continue;
      if (data.length) yield [name, JSON.parse(data.join("\n"))];
      [name, data] = ["", []];
    }
  }
}

/** Show why there is no whole answer, and give the question back for another try. */
function refuse(shown, text, failure) {
  const broken = "broken_answer: the connection ended before the answer was whole";
  const message = failure instanceof Failure ? failure.message : broken;
  question.value ||= text;
  shown.fail(message);
  if (failure.code !== 401) return;
  shown.article.remove();
  sessionStorage.removeItem(API_KEY);
  reason.textContent = message;
  access.hidden = false;
  key.focus();
}

function setRunning(controller) {
  running = controller;
  send.hidden = Boolean(controller);
  if (!controller && document.activeElement === stop) question.focus();
  stop.hidden = !controller;
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = question.value.trimEnd();
  if (!text || running) return;
  question.value = "";
  following = true;
  ask(text);
});

question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  composer.requestSubmit();
});

access.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(API_KEY, key.value.trim());
  key.value = "";
  access.hidden = true;
  question.focus();
  composer.requestSubmit();
});

stop.addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => event.key === "Escape" && running?.abort());

restart.addEventListener("click", () => {
  running?.abort();
  conversation = [];
  for (const article of log.querySelectorAll("article")) article.remove();
  question.focus();
});

scroller.addEventListener("scroll", () => {
  const above = scroller.scrollTop;
  const atEnd = scroller.scrollHeight - above - scroller.clientHeight < 40;
  following = atEnd || (following && above >= scrolledTo); // text may outrun our own scrolling
  scrolledTo = above;
});
const growth = new ResizeObserver(() => following && scroller.scrollTo(0, scroller.scrollHeight));
for (const element of [scroller, log]) growth.observe(element);
