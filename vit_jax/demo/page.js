// What the page does: sends a photograph, shows what comes back, asks for other layers and heads.
"use strict";

const at = (id) => document.getElementById(id);
const state = { facts: null, visit: null, name: "", asked: 0, drawn: 0 };

async function answered(response) {
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new Error(said.error || `No answer (HTTP ${response.status}): the terminal says why`);
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("No answer: vit_jax demo has ended, or the upload was cut off");
  }
  return answered(response);
}

function complain(message) {
  at("error").textContent = message;
  at("error").hidden = !message;
}

async function begin() {
  const facts = (state.facts = await (await ask("facts")).json());
  const size = `${facts.size[1]}\u00a0×\u00a0${facts.size[0]}\u00a0pixels`;
  const classes = facts.classes ? ` · ${facts.classes.toLocaleString("en")}\u00a0classes` : "";
  document.title = `${facts.name} · vit_jax demo`;
  at("name").textContent = facts.name;
  at("about").textContent = `From ${facts.source} · sees ${size}${classes}`;
  at("limits").textContent = `Up to ${Math.floor(facts.most_bytes / 2 ** 20)} MB`;
  at("image").alt = `The photograph as the model sees it, ${size}`;
  at("missing").replaceChildren(...facts.missing.map((text) => element("li", text)));
  at("missing").hidden = !facts.missing.length;
  at("likely").hidden = !facts.classes;
  const drawn = facts.rollout || facts.heads.length > 0;
  at("looks").hidden = at("attention").hidden = !drawn;
  const layers = facts.heads.map((_, i) => [i + 1, `${i + 1} of ${facts.heads.length}`]);
  fill(at("layer"), [...(facts.rollout ? [["", "All (rollout)"]] : []), ...layers]);
  at("layer").value = facts.rollout ? "" : String(facts.heads.length);
  at("layer").disabled = !layers.length;
  offerHeads();
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function fill(select, options) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
}

function offerHeads() {
  const layer = at("layer").value;
  const count = layer ? state.facts.heads[layer - 1] : 0;
  const before = at("head").value;
  const heads = Array.from({ length: count }, (_, i) => [i + 1, `${i + 1} of ${count}`]);
  fill(at("head"), [["", "Mean of all"], ...heads]);
  at("head").value = before <= count ? before : "";
  at("head").disabled = !layer;
}

function explained(layer, head) {
  const scale = "Bright is the largest weight of the map, dark the least.";
  if (!layer) {
    const reads = state.facts.reads;
    return `How much of each place is in ${reads} after all layers, heads averaged. ${scale}`;
  }
  const where = head ? `head ${head} of layer ${layer}` : `layer ${layer}, heads averaged`;
  return `What the class token attends to in ${where}. ${scale}`;
}

async function draw() {
  const [layer, head] = [at("layer").value, at("head").value];
  const turn = ++state.drawn;
  const query = new URLSearchParams({ visit: state.visit, layer, head });
  const picture = await (await ask(`overlay?${query}`)).blob();
  if (turn !== state.drawn) return;
  URL.revokeObjectURL(at("overlay").src);
  at("overlay").src = URL.createObjectURL(picture);
  const of = layer ? `layer ${layer}, ${head ? `head ${head}` : "mean of the heads"}` : "rollout";
  at("shown").textContent = `Where it looks: ${of}`;
  at("overlay").alt = `The same, dark where the model does not look: ${of}`;
  at("explained").textContent = explained(layer, head);
}

async function send(file) {
  const turn = ++state.asked;
  complain("");
  try {
    const limit = state.facts.most_bytes;
    if (file.size > limit) {
      throw new Error(`This file is larger than ${Math.floor(limit / 2 ** 20)} MB: make it smaller`);
    }
    at("status").textContent = `Looking at ${file.name} …`;
    const headers = { "Content-Type": "application/octet-stream" };
    headers["X-Name"] = encodeURIComponent(file.name);
    if (state.visit) headers["X-Visit"] = state.visit;
    const found = await (await ask("image", { method: "POST", headers, body: file })).json();
    if (turn !== state.asked) return;
    await show(found, file.name);
  } catch (error) {
    if (turn !== state.asked) return;
    at("status").textContent = state.name;
    complain(error.message);
  }
}

async function show(found, name) {
  [state.visit, state.name] = [found.visit, name];
  at("image").src = found.image;
  at("classes").replaceChildren(...found.classes.map(line));
  if (!at("looks").hidden) await draw();
  at("found").hidden = false;
  at("drop").classList.add("small");
  at("ask").textContent = "Choose another photograph";
  at("status").textContent = name;
}

function line([name, probability]) {
  const made = document.createElement("li");
  const share = element("span", `${(100 * probability).toFixed(2)} %`);
  share.className = "share";
  const bar = element("div", "");
  bar.className = "bar";
  bar.append(element("div", ""));
  bar.firstChild.style.width = `${100 * probability}%`;
  made.append(element("span", name), share, bar);
  return made;
}

function listen() {
  at("file").addEventListener("change", () => {
    if (at("file").files.length) send(at("file").files[0]);
    at("file").value = ""; // so that the same file can be chosen again
  });
  const redraw = () => draw().then(() => complain(""), (error) => complain(error.message));
  at("layer").addEventListener("change", () => (offerHeads(), redraw()));
  at("head").addEventListener("change", redraw);
  at("attention").addEventListener("submit", (event) => event.preventDefault());
  const over = (on) => (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", on);
  };
  document.addEventListener("dragover", over(true));
  document.addEventListener("dragleave", over(false));
  document.addEventListener("drop", (event) => {
    over(false)(event);
    if (event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
    else complain("What was dropped is no file: save the photograph, and drop the file");
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) send(event.clipboardData.files[0]);
  });
}

begin().then(listen, (error) => complain(error.message));
